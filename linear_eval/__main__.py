"""`python -m linear_eval`."""

import sys

from linear_eval.cli import main

sys.exit(main())

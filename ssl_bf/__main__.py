"""`python -m ssl_bf`, for torchrun."""

import sys

from ssl_bf.cli import main

sys.exit(main())

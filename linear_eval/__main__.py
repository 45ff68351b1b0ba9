"""`python -m linear_eval` and the command `linear-eval`."""

import sys

from linear_eval.system.entry import run


def main() -> int:
    """Run the command line and return its exit code."""
    return run("linear_eval.cli")


if __name__ == "__main__":
    sys.exit(main())

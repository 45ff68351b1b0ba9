"""`python -m ssl_bf`, for torchrun, and the command `ssl-bf`."""

import sys

from linear_eval.system.entry import run


def main() -> int:
    """Run the command line and return its exit code."""
    return run("ssl_bf.cli")


if __name__ == "__main__":
    sys.exit(main())

"""`python -m linear_eval` and the command `linear-eval`: Ctrl-C is one line, however early."""

import signal
import sys


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        from linear_eval.cli import main as run

        code = run()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what follows is clearing up
        return code
    except KeyboardInterrupt:
        from linear_eval.errors import EXIT_INTERRUPTED

        print("interrupted: nothing was begun", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())

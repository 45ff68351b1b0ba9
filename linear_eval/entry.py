"""Where a command begins: Ctrl-C is one line, however early."""

import importlib
import signal


def run(module: str) -> int:
    """Import the command line `module`, run its `main` and return the exit code."""
    try:
        code: int = importlib.import_module(module).main()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what follows is clearing up
        return code
    except KeyboardInterrupt:
        from linear_eval.errors import EXIT_INTERRUPTED
        from linear_eval.screen import say

        say("interrupted: nothing was begun")
        return EXIT_INTERRUPTED

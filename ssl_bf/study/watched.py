"""`python -m ssl_bf.study.watched COMMAND ...` runs a command until it ends, or its starter does.

Whoever starts this holds its standard input open. When that is closed, on purpose or because the
starter was killed, the command gets SIGTERM once: a run that trains then saves and stops, and none
trains on without anybody who waits for it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

SIGNALLED = 128  # as shells say that a signal ended a command


def main(command: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    # Slurm's warning is for the job alone; what ignores it hands that on to the command
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_stop_at_end_of_input, args=(child,), daemon=True).start()
    code = child.wait()
    return code if code >= 0 else SIGNALLED - code


def _stop_at_end_of_input(child: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1024):  # not sys.stdin, whose lock would be held when Python shuts down
        pass
    child.terminate()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A process of torchrun's ends with torchrun, also when that is killed."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def end_with_parent() -> None:
    """Have Linux send SIGTERM when the process that started this one ends; elsewhere do nothing.

    So what trains is saved, and no process is left over. Only where torchrun started it: other
    parents may well end before.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)

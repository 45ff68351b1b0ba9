"""A folder that one process works in at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

LOCK = "lock"


def take_lock(folder: Path, on_wait: Callable[[], None]) -> TextIO:
    """Make `folder` where it is missing, and wait until no other process works in it.

    The folder may be renamed or deleted by the one who holds the lock.

    Args:
        folder: gets a file `lock`.
        on_wait: called once if somebody else holds the lock.

    Returns:
        The lock: closing it, or the end of the process, gives it back.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    has_waited = False
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = (folder / LOCK).open("a")
        except FileNotFoundError:
            continue  # its holder renamed or deleted the folder between the two lines above
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not has_waited:
                    on_wait()
                has_waited = True
                fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_at(lock, folder / LOCK):
                return lock
        except BaseException:
            lock.close()
            raise
        lock.close()  # of a folder that is gone by now


def _is_at(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False

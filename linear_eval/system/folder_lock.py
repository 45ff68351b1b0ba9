"""A folder that one process works in at a time.

A lock ends with the process that holds it, also when that is killed. Some network disks have no
locks (NFS without its lock service, Lustre mounted without them): one line says so, and work goes
on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from errno import ENOLCK, ENOSYS, ENOTSUP, EOPNOTSUPP
from pathlib import Path

from filelock import FileLock, Timeout

from linear_eval.system.printable import one_line
from linear_eval.system.screen import say

LOCK = "lock"  # in a folder that is made or deleted as a whole
_HIDDEN_LOCK = ".lock"  # in a folder that stays, while it is held
_NO_LOCKS = {ENOSYS, ENOLCK, ENOTSUP, EOPNOTSUPP}


class InUseError(Exception):
    """Another process works in the folder."""


def take_lock(folder: Path, on_wait: Callable[[], None]) -> AbstractContextManager[object]:
    """Make `folder` where it is missing, and wait until no other process works in it.

    The folder may be renamed or deleted by the one who holds the lock.

    Args:
        folder: gets a file `lock`.
        on_wait: called once if somebody else holds the lock.

    Returns:
        The lock, held: leaving its `with` block gives it back.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    has_waited = False
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            held = _acquired(folder / LOCK, wait=has_waited)
        except Timeout:
            on_wait()
            has_waited = True
        else:
            if held is not None:
                return held


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """No other process has the same folder in such a block, which leaves no file behind.

    Raises:
        InUseError: another one has, now.
        OSError: the folder is missing or cannot be written to.
    """
    lock = folder / _HIDDEN_LOCK
    try:
        held = None
        while held is None:
            folder.stat()
            held = _acquired(lock, wait=False)
    except Timeout as error:
        raise InUseError(str(folder)) from error
    with held:
        try:
            yield
        finally:
            # Still held: whoever waits for this file sees that it is gone, and makes another.
            with suppress(OSError):
                lock.unlink()


def _acquired(lock: Path, *, wait: bool) -> AbstractContextManager[object] | None:
    """The lock, held; None if its folder or file was renamed or deleted meanwhile.

    Raises:
        Timeout: another process holds it, and we do not wait.
        OSError: the file cannot be made.
    """
    found: list[os.stat_result] = []
    try:
        held = FileLock(
            lock, fallback_to_soft=False, on_acquired=lambda file: found.append(os.fstat(file))
        ).acquire(blocking=wait)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        say(
            f"{one_line(str(lock.parent))}: this file system has no locks ({error.strerror}); "
            "going on without one: let no other process work there at the same time"
        )
        return nullcontext()
    with suppress(FileNotFoundError):
        if os.path.samestat(found[0], lock.stat()):
            return held
    held.lock.release()
    return None

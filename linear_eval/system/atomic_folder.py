"""Folders that appear whole or not at all, by a rename that survives a power cut."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LEFTOVERS = (".tmp-", ".trash-")
"""Beginnings of the names that a killed process may leave beside a folder."""


@contextmanager
def atomic_folder(place: Path) -> Iterator[Path]:
    """A new folder that becomes `place` when the block ends well, and vanishes when it does not.

    It is made beside `place`; what an earlier process left there, killed, is deleted first. Its
    files need not be flushed.

    Raises:
        OSError: it cannot be made or written to; what was at `place` is still there.
    """
    made = place.with_name(f".tmp-{place.name}")
    try:
        _delete(made)
        made.mkdir()
        yield made
        for path in sorted(made.rglob("*")):
            _sync(path)
        put_in_place(made, place)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def put_in_place(made: Path, place: Path) -> None:
    """Rename the folder `made`, whose files have reached the disk, to `place` beside it.

    A folder that was there gives way first, comes back if the rename fails, and is deleted last.

    Raises:
        OSError: a rename fails, or that it reaches the disk.
    """
    _sync(made)
    old = _out_of_sight(place) if os.path.lexists(place) else None
    try:
        made.rename(place)
    except BaseException:
        if old is not None:
            old.rename(place)
        raise
    _sync(place.parent)
    if old is not None:
        _delete(old)


def delete_folder(place: Path) -> None:
    """Delete a folder that is never seen half deleted: it is renamed first."""
    _delete(_out_of_sight(place))


def _out_of_sight(place: Path) -> Path:
    trash = place.with_name(f".trash-{place.name}")
    _delete(trash)
    place.rename(trash)
    return trash


def _delete(path: Path) -> None:
    if path.is_symlink():
        path.unlink()  # what it points to is somebody else's
    elif path.exists():
        shutil.rmtree(path)


def _sync(path: Path) -> None:
    """Make a file, or the renames and new files of a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

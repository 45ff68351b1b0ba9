"""Files that appear whole or not at all, and checks of output places before the work begins."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from linear_eval.system.errors import InputError

Reads = Mapping[str, Iterable[Path]]
Differs = Callable[[Path], str]


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` when the block ends well, and vanishes when it does not.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and are renamed
    over `path`.

    Raises:
        InputError: the folder is missing or read-only, the disk is full, or `path` is a folder.
    """
    try:
        delete_litter(path)
        with _temporary(path) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}); "
            "give a path in a folder that exists, can be written to and has room"
        ) from error


@contextmanager
def _temporary(path: Path) -> Iterator[BinaryIO]:
    """A new file beside `path`, held by its lock; it vanishes in the end, if it is still there."""
    is_ours = False
    while not is_ours:
        temporary = _beside(path)
        with temporary.open("xb") as file:
            try:
                with suppress(BlockingIOError):
                    _hold(file)
                    # else it was taken for a killed process's before it had its lock
                    is_ours = temporary.exists()
                if is_ours:
                    yield file
            finally:
                temporary.unlink(missing_ok=True)


def check_output(
    path: Path,
    key: str,
    *,
    overwrite: bool,
    reads: Reads | None = None,
    differs: Differs | None = None,
) -> None:
    """Refuse a place where `atomic_file` could or should not put a file, before any work.

    Args:
        path: of the file.
        key: the option or key that named it, for the message.
        overwrite: see `check_stays`.
        reads: likewise.
        differs: likewise.

    Raises:
        InputError: it is a folder or a device, or its folder is missing or takes no new files; or
            what is there shall stay.
    """
    if not path.parent.is_dir():
        raise InputError(f"{key}: {path.parent}: no such folder; create it first")
    check_new(path, key)  # first: a name that is too long cannot even be asked whether it exists
    if path.is_dir():
        raise InputError(f"{key}: {path} is a folder, expected a file; give {path / 'NAME'}")
    if path.exists() and not path.is_file():
        raise InputError(f"{key}: {path} is a device, expected a file; give another path")
    check_stays(path, key, overwrite=overwrite, reads=reads, differs=differs)


def check_suffix(path: Path, key: str, suffix: str) -> None:
    """Refuse a name that does not end in `suffix`: it may be that of an image, of anything.

    Raises:
        InputError: it does not.
    """
    if path.suffix.lower() != suffix:
        raise InputError(
            f"{key}: '{path}' does not end in {suffix}; give a path such as "
            f"{path.with_suffix(suffix)}"
        )


def check_stays(
    path: Path,
    key: str,
    *,
    overwrite: bool,
    reads: Reads | None = None,
    differs: Differs | None = None,
) -> None:
    """The one rule of all outputs: what is there stays, unless it is the command's own or given up.

    Its own is what the command made of the same thing before and would make again: the results of
    the same backbone (`run`, `quality`), a run's exports under their default names, a store of the
    same images. `--overwrite` (of a run: run.overwrite=true) gives up anything else, but never what
    the command reads. docs/runs.md says this for every command.

    Args:
        path: of a file or folder, there or not.
        key: the option or key that named it, for the message.
        overwrite: whether the user gave up what is there.
        reads: what the command reads, in words -> its files.
        differs: of an output that says what it was made of: "" if that is the command's own, else
            what it is, such as "holds results of another backbone".

    Raises:
        InputError: it is there and stays.
    """
    if not os.path.lexists(path):
        return
    for words, files in (reads or {}).items():
        if any(file.exists() and path.exists() and path.samefile(file) for file in files):
            raise InputError(f"{key}: {path} is {words}; give another path")
    held = "exists already" if differs is None else differs(path)
    if held and not overwrite:
        raise InputError(f"{key}: {path} {held}; give another path or --overwrite")


def check_new(path: Path, key: str) -> None:
    """Refuse a place where no file or folder can be made, in a folder that exists.

    An empty file is made there and removed: permissions alone do not tell (the administrator has
    them all, and neither /proc nor a disk that is read-only takes anything).

    Args:
        path: of the file or folder.
        key: the option or key that named it, for the message.

    Raises:
        InputError: its folder takes no new files.
    """
    trial = _beside(path.absolute())
    try:
        delete_litter(path.absolute())
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise InputError(
            f"{key}: {path} cannot be written ({error.strerror or error}); give a path in a folder "
            "that can be written to"
        ) from error


def check_outside(path: Path, images: Path | None, key: str) -> None:
    """Refuse a place among images: what is written there would be taken for a class, or for images.

    Args:
        path: of the file or folder.
        images: folder in which all images are read but hidden ones; None: there is none.
        key: the option or key that named the place, for the message.

    Raises:
        InputError: it is that folder, or lies in it and is not hidden.
    """
    place = path.resolve()
    if images is None or not place.is_relative_to(images.resolve()):
        return
    below = place.relative_to(images.resolve())
    if not any(part.startswith(".") for part in below.parts):
        raise InputError(
            f"{key}: {path} lies among the images in {images}, and would be read with them; "
            "choose a place outside of that folder"
        )


def delete_litter(path: Path) -> None:
    """Delete the temporary files of `path` that killed processes left; one that is open stays.

    The lock of a file ends with the process that holds it. Where the file system has no locks,
    nothing is deleted.

    Raises:
        OSError: the disk fails, or the folder does not let go of them.
    """
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.part")
    found = []
    unread = suppress(FileNotFoundError, NotADirectoryError, PermissionError)
    with unread, os.scandir(path.parent) as entries:
        found = [Path(entry.path) for entry in entries if name.fullmatch(entry.name)]
    for each in found:
        with suppress(FileNotFoundError, BlockingIOError), each.open("rb") as file:
            if _hold(file):
                each.unlink()


def _hold(file: BinaryIO) -> bool:
    """Lock an open file, if nobody has; False where there are no locks.

    Raises:
        BlockingIOError: another process has.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def file_sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Image files below a folder: each found under its path, in a fixed order."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import deque
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from linear_eval.datasets.contents import NO_TIME, Stamp
from linear_eval.datasets.image_formats import image_suffixes
from linear_eval.datasets.system_files import is_system_folder, is_system_image
from linear_eval.datasets.unread_files import Unread
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable
from linear_eval.system.user_text import ARCHIVES

_Identity = tuple[int, int]


class FoundImage(NamedTuple):
    """An image file: its path below the scanned folder (posix), and its stamp."""

    path: str
    stamp: Stamp


class Scan(NamedTuple):
    """What was found below a folder.

    Attributes:
        folders: names of its first-level folders as on disk, sorted.
        images: sorted by path.
        unread: what lies beside them.
        places: path of every folder that was entered, with "" for the scanned one.
    """

    folders: tuple[str, ...]
    images: tuple[FoundImage, ...]
    unread: Unread
    places: frozenset[str]


def existing_folder(root: str) -> Path:
    """The folder that `data.root` names; `~` is the user's home.

    Raises:
        InputError: it is no folder.
    """
    folder = Path(root).expanduser()
    if is_archive(folder):
        raise InputError(
            f"data.root: '{printable(root)}' is an archive, expected a folder; extract it, and set"
            " data.root to the folder that comes out of it"
        )
    if not root or not folder.is_dir():
        raise InputError(
            f"data.root: '{printable(root)}' is not a folder, expected one that exists;"
            " set data.root=FOLDER"
        )
    return folder


def is_archive(path: Path) -> bool:
    """Whether a path is a file that images may be packed in."""
    return path.name.lower().endswith(ARCHIVES) and path.is_file()


def scan_images(folder: Path, *, only: Collection[str] | None = None) -> Scan:
    """Find every image file below a folder.

    What systems write (see `system_files`) is skipped, and hidden files and folders are not read.
    A link to a folder is followed, as torchvision does: a folder with two names is read under both.
    One that leads back to a folder it lies in adds nothing.

    Args:
        folder: where to look.
        only: first-level folders to enter; None enters all. Images beside them are found anyway.
    """
    images: list[FoundImage] = []
    places: list[str] = []
    unread = Unread()
    suffixes = image_suffixes()
    for place, entries in _walk(folder, only, unread):
        places.append(place)
        before = f"{place}/" if place else ""
        for entry in entries:
            name = entry.name
            # An entry of a directory has no "/" in it: `rpartition` finds what the name ends in.
            _, dot, suffix = name.rpartition(".")
            if not dot or (suffix not in suffixes and suffix.lower() not in suffixes):
                _count(entry, f"{before}{name}", unread)
            elif name[0] == ".":
                if not is_system_image(name):
                    unread.kinds[f"hidden .{suffix.lower()}"] += 1
            elif (stamp := _image_stamp(entry)) is not None:
                images.append(FoundImage(f"{before}{name}", stamp))
            else:
                unread.kinds[f"pipe or device .{suffix.lower()}"] += 1
    first = sorted(place for place in places if place and "/" not in place)
    return Scan(tuple(first), tuple(sorted(images)), unread, frozenset(places))


def _count(entry: os.DirEntry[str], path: str, unread: Unread) -> None:
    if entry.is_symlink() and not Path(entry.path).exists():
        unread.broken_links.append(path)
    else:
        unread.count(entry.name)


def folder_names(folder: Path) -> tuple[str, ...]:
    """The first-level folders as `scan_images` gives them, without a look into any of them."""
    folders, _ = _parted(_listing(folder))
    entered = [entry.name for entry, _ in _entered(folders, _loops(folder))]
    return tuple(sorted(name for name in entered if not _is_skipped(name)))


def one_form(name: str) -> str:
    """The name in the Unicode form that names are compared in (NFC); macOS writes another one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def first_folder(image: FoundImage) -> str:
    """The first-level folder an image lies in; "" for one that lies directly in the root."""
    head, separator, _ = image.path.partition("/")
    return head if separator else ""


def few(names: Collection[str], limit: int = 3) -> str:
    """The first names in sorted order, for a message: "a, b, c, ..."."""
    shown = [printable(name) for name in sorted(names)[:limit]]
    return ", ".join([*shown, "..."] if len(names) > limit else shown)


def _walk(
    folder: Path, only: Collection[str] | None, unread: Unread
) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Yield (a folder's path below the root, what is in it but folders), the root first."""
    waiting = deque([("", _loops(folder))])
    visited: set[_Identity] = set()
    while waiting:
        place, above = waiting.popleft()
        folders, files = _parted(_listing(folder / place if place else folder))
        for entry, identity in _entered(folders, above):
            path = f"{place}/{entry.name}" if place else entry.name
            if _is_skipped(entry.name):
                if not is_system_folder(entry.name):
                    unread.hidden_folders.append(path)
            elif place or only is None or entry.name in only:
                waiting.append((path, above | {identity}))
                if identity in visited:
                    unread.twice.append(path)
                visited.add(identity)
        yield place, files


def _listing(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise _unlisted(folder, error) from error


def _unlisted(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"{printable(str(folder))}: cannot be listed ({error.strerror}), expected a readable"
        " folder; correct its permissions"
    )


def _loops(folder: Path) -> frozenset[_Identity]:
    """The folder and all that it lies in: a link to one of them leads back here."""
    try:
        real = folder.resolve()
        return frozenset(_identity(each.stat()) for each in (real, *real.parents))
    except OSError as error:
        raise _unlisted(folder, error) from error


def _parted(
    entries: list[os.DirEntry[str]],
) -> tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]]:
    """Folders, and all else."""
    folders: list[os.DirEntry[str]] = []
    others: list[os.DirEntry[str]] = []
    for entry in entries:
        (folders if _is_folder(entry) else others).append(entry)
    return folders, others


def _entered(
    folders: list[os.DirEntry[str]], above: frozenset[_Identity]
) -> Iterator[tuple[os.DirEntry[str], _Identity]]:
    """The folders with their identities, without links that lead back."""
    for entry in folders:
        try:
            identity = _identity(entry.stat())
        except OSError as error:
            raise _unlisted(Path(entry.path), error) from error
        if identity not in above:
            yield entry, identity


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


def _is_skipped(name: str) -> bool:
    """Whether a folder is skipped: what it holds is not the user's."""
    return name.startswith(".") or is_system_folder(name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _image_stamp(entry: os.DirEntry[str]) -> Stamp | None:
    """Stamp of a file; of size -1 where it cannot be reached; None for a pipe or device."""
    try:
        status = entry.stat()
    except OSError:  # a dangling link: kept, so that reading it reports its path
        return -1, NO_TIME, 0, 0
    return stamp_of(status) if stat.S_ISREG(status.st_mode) else None


def stamp_of(status: os.stat_result) -> Stamp:
    """The stamp of a file, from its status."""
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns

"""Image files below a folder: found once each, in a fixed order."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from linear_eval.datasets.contents import NO_TIME, Stamp
from linear_eval.datasets.decode import printable
from linear_eval.errors import InputError

IMAGE_SUFFIXES = frozenset(
    ("jpg", "jpeg", "png", "webp", "bmp", "ppm", "pgm", "pbm", "tif", "tiff", "gif")
)


class FoundImage(NamedTuple):
    """An image file: its path below the scanned folder (posix), and what tells that it changed."""

    path: str
    stamp: Stamp


class Scan(NamedTuple):
    """First-level folders and image files below a folder, both sorted."""

    folders: tuple[str, ...]
    images: tuple[FoundImage, ...]


def existing_folder(root: str) -> Path:
    """The folder that `data.root` names; `~` is the user's home.

    Raises:
        InputError: it is no folder.
    """
    folder = Path(root).expanduser()
    if not root or not folder.is_dir():
        raise InputError(
            f"data.root: '{printable(root)}' is not a folder, expected one that exists;"
            " set data.root=FOLDER"
        )
    return folder


def scan_images(folder: Path, *, only: Collection[str] | None = None) -> Scan:
    """Find every image file below a folder.

    Hidden files and folders are skipped, and so is the `__MACOSX` of zips made on a Mac. A folder
    reachable along several paths is visited once, along a path without links if there is one, so a
    loop of links adds nothing.

    Args:
        folder: where to look.
        only: first-level folders to enter; None enters all. Images beside them are found anyway.
    """
    folders: list[str] = []
    images: list[FoundImage] = []
    for place, entries in _walk(folder, only):
        if place and "/" not in place:
            folders.append(place)
        for entry in entries:
            stamp = _image_stamp(entry)
            if stamp is not None:
                images.append(FoundImage(f"{place}/{entry.name}" if place else entry.name, stamp))
    return Scan(tuple(sorted(folders)), tuple(sorted(images)))


def listed_images(folder: Path, names: Sequence[str]) -> list[FoundImage]:
    """Each named file below `folder`, in the order given.

    Raises:
        InputError: some are not there.
    """
    images, missing = [], []
    for name in names:
        try:
            images.append(FoundImage(name, stamp_of((folder / name).stat())))
        except OSError:
            missing.append(name)
    if missing:
        raise InputError(
            f"{printable(str(folder))}: lacks {len(missing)} of {len(names)} listed images"
            f" ({few(missing)}), expected all of them; extract the data set again, or correct"
            " data.root"
        )
    return images


def folder_names(folder: Path) -> tuple[str, ...]:
    """The first-level folders as `scan_images` gives them, without a look at any file."""
    return tuple(sorted(place for place, _ in _walk(folder, None) if place and "/" not in place))


def first_folder(image: FoundImage) -> str:
    """The first-level folder an image lies in; "" for one that lies directly in the root."""
    head, separator, _ = image.path.partition("/")
    return head if separator else ""


def few(names: Collection[str], limit: int = 3) -> str:
    """The first names in sorted order, for a message: "a, b, c, ..."."""
    shown = [printable(name) for name in sorted(names)[:limit]]
    return ", ".join([*shown, "..."] if len(names) > limit else shown)


def _walk(
    folder: Path, only: Collection[str] | None
) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Yield (folder's path below the root, its visible entries) once per real folder."""
    plain, linked = deque([""]), deque[str]()
    visited: set[tuple[int, int]] = set()
    while plain or linked:
        # Links come last, so that a folder is met under its real path first.
        place = plain.popleft() if plain else linked.popleft()
        identity, entries = _listing(folder / place)
        if identity in visited:
            continue
        visited.add(identity)
        if not place and only is not None:
            entries = [entry for entry in entries if entry.name in only or not _is_folder(entry)]
        for entry in entries:
            if _is_folder(entry):
                path = f"{place}/{entry.name}" if place else entry.name
                (linked if entry.is_symlink() else plain).append(path)
        yield place, entries


def _listing(folder: Path) -> tuple[tuple[int, int], list[os.DirEntry[str]]]:
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not _is_hidden(entry.name)]
    except OSError as error:
        raise InputError(
            f"{printable(str(folder))}: cannot be listed ({error.strerror}), expected a readable"
            " folder; correct its permissions"
        ) from error
    return (status.st_dev, status.st_ino), sorted(visible, key=lambda entry: entry.name)


def _is_hidden(name: str) -> bool:
    """Tell whether a file or folder is none of the user's images, whatever it holds."""
    return name.startswith(".") or name == "__MACOSX"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _image_stamp(entry: os.DirEntry[str]) -> Stamp | None:
    """Stamp of an image file; of size -1 where it cannot be reached; None for any other file."""
    _, dot, suffix = entry.name.rpartition(".")
    if not dot or suffix.lower() not in IMAGE_SUFFIXES:
        return None
    try:
        status = entry.stat()
    except OSError:  # a dangling link: kept, so that reading it reports its path
        return -1, NO_TIME, 0
    return stamp_of(status) if stat.S_ISREG(status.st_mode) else None


def stamp_of(status: os.stat_result) -> Stamp:
    """What tells that a file changed, of its status."""
    return status.st_size, status.st_mtime_ns, status.st_ino

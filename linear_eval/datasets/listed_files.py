"""Lists of image files, and the files that they name, in their order."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from linear_eval.datasets.image_files import FoundImage, few, one_form, stamp_of
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable
from linear_eval.system.user_text import TextError, numbered_lines, read_text


def listed_images(
    folder: Path,
    names: Sequence[str],
    *,
    which: str = "listed images",
    remedy: str = "extract the data set again, or correct data.root",
) -> list[FoundImage]:
    """Each named file below `folder`, in the order given.

    A name whose letters the disk holds in another Unicode form is found, under its path on disk.

    Args:
        folder: of the images.
        names: paths in it.
        which: what they are, for the message.
        remedy: what to do where some are not there.

    Raises:
        InputError: some are not there, or would lie outside of the folder.
    """
    outside = [name for name in names if _leads_out(name)]
    if outside:
        raise InputError(
            f"{printable(str(folder))}: {len(outside)} of {len(names)} {which} lie outside of it"
            f" ({few(outside)}), expected paths below it without '..'; correct the list"
        )
    images, missing = [], []
    for name in names:
        found = _listed_image(folder, name)
        if found is None:
            missing.append(name)
        else:
            images.append(found)
    if missing:
        raise InputError(
            f"{printable(str(folder))}: lacks {len(missing)} of {len(names)} {which}"
            f" ({few(missing)}), expected all of them; {remedy}"
        )
    return images


def list_lines(path: Path, expected: str, remedy: str) -> list[tuple[int, str]]:
    """Number and text of each line of a published list that is not empty.

    Args:
        path: of the list.
        expected: what should be in it, for the message.
        remedy: what to do where it cannot be read.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return numbered_lines(read_text(path))
    except TextError as error:
        raise InputError(f"{printable(str(path))}: {error}, {expected}; {remedy}") from error


def damaged_line(path: Path, number: int, expected: str) -> InputError:
    """What to raise for a line that is not of the published form, or there twice."""
    return InputError(
        f"{printable(str(path))}: line {number} is damaged or repeated, {expected}; extract the"
        " data set again"
    )


def _leads_out(name: str) -> bool:
    """Whether a name in a list would open a file elsewhere."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\0" in name


def _listed_image(folder: Path, name: str) -> FoundImage | None:
    forms = (name, one_form(name), unicodedata.normalize("NFD", name))
    for path in dict.fromkeys(forms) if not name.isascii() else (name,):
        try:
            return FoundImage(path, stamp_of((folder / path).stat()))
        except OSError:
            continue
    return None

"""Image files that a list names, in its order."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from linear_eval.datasets.image_files import FoundImage, few, one_form, stamp_of
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable


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

"""Image files that a list names, in its order."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from linear_eval.datasets.decode import printable
from linear_eval.datasets.image_files import FoundImage, few, one_form, stamp_of
from linear_eval.system.errors import InputError


def listed_images(folder: Path, names: Sequence[str]) -> list[FoundImage]:
    """Each named file below `folder`, in the order given.

    A name whose letters the disk holds in another Unicode form is found, under its path on disk.

    Raises:
        InputError: some are not there.
    """
    images, missing = [], []
    for name in names:
        found = _listed_image(folder, name)
        if found is None:
            missing.append(name)
        else:
            images.append(found)
    if missing:
        raise InputError(
            f"{printable(str(folder))}: lacks {len(missing)} of {len(names)} listed images"
            f" ({few(missing)}), expected all of them; extract the data set again, or correct"
            " data.root"
        )
    return images


def _listed_image(folder: Path, name: str) -> FoundImage | None:
    forms = (name, one_form(name), unicodedata.normalize("NFD", name))
    for path in dict.fromkeys(forms) if not name.isascii() else (name,):
        try:
            return FoundImage(path, stamp_of((folder / path).stat()))
        except OSError:
            continue
    return None

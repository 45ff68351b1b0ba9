"""Stanford Online Products: classes of a few photos each, train and test by two lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from linear_eval.datasets.class_folders import file_split
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.divided_classes import DividedClassesSettings
from linear_eval.datasets.image_files import existing_folder, one_form
from linear_eval.datasets.listed_files import damaged_line, list_lines, listed_images
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable

_HEADER = "image_id class_id super_class_id path"


@dataclass(frozen=True, kw_only=True)
class SopConfig(DividedClassesSettings):
    """The extracted archive: `Ebay_train.txt`, `Ebay_test.txt` and the images that they name.

    Attributes:
        root: the folder `Stanford_Online_Products`.

    Source: Oh Song et al. 2016; 59,551 images of 11,318 classes in train, 60,502 of 11,316 others
    in test.
    """

    name: Literal["sop"] = "sop"
    root: str

    def _open(self, *, is_train: bool) -> ImageSplit:
        root = existing_folder(self.root)
        rows = _read(root / ("Ebay_train.txt" if is_train else "Ebay_test.txt"))
        classes = sorted({number for number, _ in rows})
        label_of = {number: label for label, number in enumerate(classes)}
        images = listed_images(root, [path for _, path in rows])
        labels = [label_of[number] for number, _ in rows]
        names = tuple(map(str, classes))
        return file_split(self.name, root, images, labels, names, decoding=self.decoding)


def _read(path: Path) -> list[tuple[int, str]]:
    """(class, path of an image) of each line."""
    expected = f"expected the heading '{_HEADER}' and a line per image"
    lines = list_lines(path, expected, "set data.root to the extracted archive")
    if not lines or lines[0][1].split() != _HEADER.split():
        raise InputError(
            f"{printable(str(path))}: has another first line, {expected}; extract the data set"
            " again"
        )
    rows, seen = [], set()
    for number, line in lines[1:]:
        fields = line.split(maxsplit=3)
        is_whole = len(fields) == 4 and all(f.isascii() and f.isdigit() for f in fields[:3])
        if not is_whole or one_form(fields[3]) in seen:
            raise damaged_line(path, number, expected)
        seen.add(one_form(fields[3]))
        rows.append((int(fields[1]), fields[3]))
    if not rows:
        raise InputError(f"{printable(str(path))}: lists no image, {expected}; extract it again")
    return rows

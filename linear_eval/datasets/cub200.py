"""CUB-200-2011: birds; for retrieval the first half of the classes is train, the second is test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from linear_eval.datasets.class_folders import file_split
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.divided_classes import DividedClassesSettings
from linear_eval.datasets.image_files import existing_folder
from linear_eval.datasets.listed_files import damaged_line, list_lines, listed_images
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable


@dataclass(frozen=True, kw_only=True)
class Cub200Config(DividedClassesSettings):
    """The extracted archive: `images.txt`, `image_class_labels.txt`, `classes.txt` and `images/`.

    Classes 1 to 100 are train, 101 to 200 test, as in all published retrieval results; the split
    by images within classes (`train_test_split.txt`) is not used.

    Attributes:
        root: the folder `CUB_200_2011`, or the one that it lies in.

    Source: Wah et al. 2011; 11,788 images.
    """

    name: Literal["cub200"] = "cub200"
    root: str

    def _open(self, *, is_train: bool) -> ImageSplit:
        root = existing_folder(self.root)
        root = root / "CUB_200_2011" if (root / "CUB_200_2011").is_dir() else root
        names, paths, labels = (
            _read(root / name) for name in ("classes.txt", "images.txt", "image_class_labels.txt")
        )
        strange = [number for number, label in labels.items() if label not in names]
        if set(paths) != set(labels) or strange or len(names) < 2:
            raise InputError(
                f"{printable(str(root))}: images.txt, image_class_labels.txt and classes.txt do not"
                f" fit ({len(paths)} images, {len(labels)} labels, {len(strange)} of unknown"
                " classes), expected a label per image; extract the data set again"
            )
        order = sorted(names, key=int)
        half = len(order) // 2
        chosen = order[:half] if is_train else order[half:]
        label_of = {number: label for label, number in enumerate(chosen)}
        kept = [number for number in paths if labels[number] in label_of]
        images = listed_images(root / "images", [paths[number] for number in kept])
        return file_split(
            self.name,
            root / "images",
            images,
            [label_of[labels[number]] for number in kept],
            tuple(names[number] for number in chosen),
            decoding=self.decoding,
        )


def _read(path: Path) -> dict[str, str]:
    """Number -> text of each line."""
    expected = "expected a number and a value in each line"
    values: dict[str, str] = {}
    for number, line in list_lines(path, expected, "set data.root to CUB_200_2011"):
        key, _, value = line.partition(" ")
        if not (key.isascii() and key.isdigit()) or not value or key in values:
            raise damaged_line(path, number, expected)
        values[key] = value
    return values

"""Imagenette: ten easily told classes of ImageNet, in `root/train/WNID` and `root/val/WNID`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from linear_eval.datasets.class_folders import class_folder_split
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decoding import ImageFileSettings
from linear_eval.datasets.image_files import existing_folder

CLASSES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


@dataclass(frozen=True, kw_only=True)
class ImagenetteConfig(ImageFileSettings):
    """Imagenette in any of its sizes. Source: github.com/fastai/imagenette.

    Attributes:
        root: the extracted archive (`imagenette2`, `imagenette2-320` or `imagenette2-160`).
    """

    name: Literal["imagenette"] = "imagenette"
    root: str

    def open_train(self) -> ImageSplit:
        """`root/train`, all ten classes."""
        return self._open("train")

    def open_test(self) -> ImageSplit:
        """`root/val`, all ten classes."""
        return self._open("val")

    def _open(self, folder: Literal["train", "val"]) -> ImageSplit:
        split = class_folder_split(
            self.name,
            existing_folder(self.root) / folder,
            class_names=tuple(CLASSES),
            complete=True,
            decoding=self.decoding,
        )
        return dataclasses.replace(split, class_names=tuple(CLASSES.values()))

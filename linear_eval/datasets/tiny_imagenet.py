"""Tiny-ImageNet: 64 x 64 pixel images of up to 200 ImageNet classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from linear_eval.datasets.class_folders import class_folder_split, file_split
from linear_eval.datasets.dataset import DatasetSettings, ImageSplit
from linear_eval.datasets.decode import printable
from linear_eval.datasets.image_files import existing_folder, few, folder_names, scan_images
from linear_eval.errors import InputError

_IMAGES = "images"
_ANNOTATIONS = "val_annotations.txt"


@dataclass(frozen=True, kw_only=True)
class TinyImagenetConfig(DatasetSettings):
    """Tiny-ImageNet or some of its classes, in the published layout or with class folders in val.

    Train is `train/WNID/images/*.JPEG` or `train/WNID/*.JPEG`; val is `val/images/*.JPEG` with
    `val/val_annotations.txt`, or one folder per class like train. The published test images have
    no labels and are not used: val is the test split, as in all published results.

    Attributes:
        root: the folder that holds `train` and `val`.
    """

    name: Literal["tiny_imagenet"] = "tiny_imagenet"
    root: str

    def open_train(self) -> ImageSplit:
        """`root/train`."""
        return class_folder_split(self.name, self._train_folder())

    def open_test(self) -> ImageSplit:
        """`root/val`, whichever layout it has; its classes are those of train.

        Raises:
            InputError: also when `val/images` has images and there are no annotations, or these
                do not fit: never is that folder taken for a class.
        """
        class_names = folder_names(self._train_folder())
        val = existing_folder(self.root) / "val"
        if (val / _IMAGES).is_dir():
            return self._annotated_split(val, class_names)
        return class_folder_split(self.name, val, class_names=class_names, complete=True)

    def _train_folder(self) -> Path:
        train = existing_folder(self.root) / "train"
        if (train / _IMAGES).is_dir():
            raise InputError(
                f"{printable(str(train))}: holds a folder '{_IMAGES}', expected one folder per"
                " class; set data.root to the folder that holds train/WNID"
            )
        if not train.is_dir():
            raise InputError(
                f"{printable(str(train))}: missing, expected one folder per class in it;"
                " check data.root and data.name"
            )
        return train

    def _annotated_split(self, val: Path, class_names: tuple[str, ...]) -> ImageSplit:
        wnids = _read_annotations(val / _ANNOTATIONS)
        images = scan_images(val, only=(_IMAGES,)).images
        _refuse_mismatch(val, wnids, [image.path for image in images])
        number = {wnid: label for label, wnid in enumerate(class_names)}
        unknown = set(wnids.values()) - set(number)
        absent = set(number) - set(wnids.values())
        if unknown or absent:
            raise InputError(
                f"{printable(str(val / _ANNOTATIONS))}: {len(unknown)} of its classes are not in"
                f" train ({few(unknown)}) and {len(absent)} of train are not in it ({few(absent)}),"
                " expected the classes of train; check data.root"
            )
        labels = [number[wnids[image.path]] for image in images]
        return file_split(self.name, val, images, labels, class_names)


def _read_annotations(path: Path) -> dict[str, str]:
    """Path of each image below val -> WNID."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"{printable(str(path))}: cannot be read ({printable(str(error))}), expected a line"
            " 'image<TAB>WNID<TAB>box' per image in val/images; extract the data set again"
        ) from error
    wnids: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t")
        if len(fields) < 2 or f"{_IMAGES}/{fields[0]}" in wnids:
            raise InputError(
                f"{printable(str(path))}: line {number} is damaged or repeated, expected"
                " 'image<TAB>WNID<TAB>box'; extract the data set again"
            )
        wnids[f"{_IMAGES}/{fields[0]}"] = fields[1]
    return wnids


def _refuse_mismatch(val: Path, wnids: dict[str, str], paths: list[str]) -> None:
    unlabelled = set(paths) - set(wnids)
    missing = set(wnids) - set(paths)
    if unlabelled or missing or not paths:
        raise InputError(
            f"{printable(str(val))}: {len(unlabelled)} images have no line in {_ANNOTATIONS}"
            f" ({few(unlabelled)}) and {len(missing)} lines no image ({few(missing)}), expected one"
            " line per image; extract the data set again"
        )

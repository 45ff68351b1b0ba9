"""Tiny-ImageNet: 64 x 64 pixel images of up to 200 ImageNet classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from linear_eval.datasets.class_folders import class_folder_split, file_split, sorted_classes
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decoding import ImageFileSettings
from linear_eval.datasets.image_files import (
    existing_folder,
    few,
    folder_names,
    one_form,
    scan_images,
)
from linear_eval.datasets.split_folders import missing_split
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable
from linear_eval.system.user_text import TextError, numbered_lines, read_text

_IMAGES = "images"
_ANNOTATIONS = "val_annotations.txt"


@dataclass(frozen=True, kw_only=True)
class TinyImagenetConfig(ImageFileSettings):
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
        train = self._train_folder()
        return class_folder_split(
            self.name, train, only=_class_folders(train), decoding=self.decoding
        )

    def open_test(self) -> ImageSplit:
        """`root/val`, whichever layout it has; its classes are those of train.

        Raises:
            InputError: also when `val/images` has images and there are no annotations, or these
                do not fit: never is that folder taken for a class; or when class folders have
                images as well. Emptied, it is of no account.
        """
        train = self._train_folder()
        class_names = tuple(name for name in sorted_classes(train) if name != _IMAGES)
        val = existing_folder(self.root) / "val"
        if not val.is_dir():
            raise missing_split(val)
        classes = _class_folders(val)
        if not _has_images(val) and (classes or not (val / _IMAGES).is_dir()):
            return class_folder_split(
                self.name,
                val,
                class_names=class_names,
                complete=True,
                only=classes,
                decoding=self.decoding,
            )
        sorted_already = scan_images(val, only=classes).images
        if sorted_already:
            raise InputError(
                f"{printable(str(val))}: images lie in class folders ({sorted_already[0].path}) and"
                f" in '{_IMAGES}', expected one of the two; finish sorting them, or remove one"
            )
        return self._annotated_split(val, class_names)

    def _train_folder(self) -> Path:
        train = existing_folder(self.root) / "train"
        if not train.is_dir():
            raise missing_split(train)
        if _has_images(train):
            raise InputError(
                f"{printable(str(train))}: holds a folder '{_IMAGES}', expected one folder per"
                " class; set data.root to the folder that holds train/WNID"
            )
        return train

    def _annotated_split(self, val: Path, class_names: tuple[str, ...]) -> ImageSplit:
        wnids = _read_annotations(val / _ANNOTATIONS)
        scan = scan_images(val, only=(_IMAGES,))
        images = scan.images
        _refuse_mismatch(val, wnids, [one_form(image.path) for image in images])
        number = {wnid: label for label, wnid in enumerate(class_names)}
        unknown = set(wnids.values()) - set(number)
        absent = set(number) - set(wnids.values())
        if unknown or absent:
            raise InputError(
                f"{printable(str(val / _ANNOTATIONS))}: {len(unknown)} of its classes are not in"
                f" train ({few(unknown)}) and {len(absent)} of train are not in it ({few(absent)}),"
                " expected the classes of train; check data.root"
            )
        labels = [number[wnids[one_form(image.path)]] for image in images]
        notes = scan.unread.notes(val)
        return file_split(
            self.name, val, images, labels, class_names, notes=notes, decoding=self.decoding
        )


def _has_images(folder: Path) -> bool:
    """Whether images lie in `folder/images`."""
    return (folder / _IMAGES).is_dir() and bool(scan_images(folder, only=(_IMAGES,)).images)


def _class_folders(folder: Path) -> tuple[str, ...]:
    return tuple(name for name in folder_names(folder) if name != _IMAGES)


def _read_annotations(path: Path) -> dict[str, str]:
    """Path of each image below val -> WNID."""
    try:
        lines = numbered_lines(read_text(path))
    except TextError as error:
        raise InputError(
            f"{printable(str(path))}: {error}, expected a line 'image<TAB>WNID<TAB>box' per image"
            " in val/images; extract the data set again"
        ) from error
    wnids: dict[str, str] = {}
    for number, line in lines:
        fields = [field.strip() for field in line.split("\t")]
        image = f"{_IMAGES}/{one_form(fields[0])}"
        if len(fields) < 2 or image in wnids:
            raise InputError(
                f"{printable(str(path))}: line {number} is damaged or repeated, expected"
                " 'image<TAB>WNID<TAB>box'; extract the data set again"
            )
        wnids[image] = fields[1]
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

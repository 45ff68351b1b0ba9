"""Image files in class folders: what the data sets stored as files are made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from linear_eval.datasets.dataset import ImageSplit, fingerprint_of
from linear_eval.datasets.decode import decode_image, printable
from linear_eval.datasets.image_files import (
    IMAGE_SUFFIXES,
    FoundImage,
    Scan,
    few,
    first_folder,
    scan_images,
)
from linear_eval.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def file_split(
    data_set: str,
    folder: Path,
    images: Sequence[FoundImage],
    labels: Sequence[int],
    class_names: tuple[str, ...],
) -> ImageSplit:
    """A split of image files below `folder`, decoded when read."""
    ids = tuple(image.path for image in images)
    targets = torch.tensor(labels, dtype=torch.int64)
    sizes = (image.size for image in images)
    return ImageSplit(
        ids=ids,
        labels=targets,
        class_names=class_names,
        read=FileReader(folder, ids),
        fingerprint=fingerprint_of(data_set, ids, targets, sizes),
        folder=folder.absolute(),
    )


def class_folder_split(
    data_set: str,
    folder: Path,
    *,
    class_names: tuple[str, ...] | None = None,
    only: Collection[str] | None = None,
    complete: bool = False,
) -> ImageSplit:
    """A labelled split: each first-level folder of `folder` is a class, however deep its images.

    Args:
        data_set: name of the data set.
        folder: the split's folder.
        class_names: the classes allowed, in the order of their labels; None takes those found,
            sorted.
        only: folders to enter, see `scan_images`.
        complete: every one of `class_names` must be there.

    Raises:
        InputError: the folder is missing or without classes, an image lies outside the class
            folders, a class has no image, is not allowed, or is missing.
    """
    if not folder.is_dir():
        raise InputError(
            f"{printable(str(folder))}: missing, expected a folder with one folder per class;"
            " check data.root and data.name"
        )
    scan = scan_images(folder, only=only)
    refuse_loose_images(folder, scan)
    if not scan.folders:
        raise InputError(
            f"{printable(str(folder))}: holds no class folders, expected one folder per class;"
            " check data.root and data.name"
        )
    names = scan.folders if class_names is None else class_names
    refuse_empty_folders(folder, scan)
    _refuse(folder, "holds", set(scan.folders) - set(names), "expected only classes of train")
    if complete:
        _refuse(folder, "lacks", set(names) - set(scan.folders), f"expected {len(names)} classes")
    number = {name: label for label, name in enumerate(names)}
    labels = [number[first_folder(image)] for image in scan.images]
    return file_split(data_set, folder, scan.images, labels, names)


def refuse_loose_images(folder: Path, scan: Scan) -> None:
    """Raise InputError when images lie directly in a folder of class folders."""
    loose = [image.path for image in scan.images if not first_folder(image)]
    if loose:
        raise InputError(
            f"{printable(str(folder))}: {len(loose)} images lie directly in it"
            f" ({few(loose)}), expected each in its class folder; move or remove them"
        )


def refuse_empty_folders(folder: Path, scan: Scan) -> None:
    """Raise InputError when a first-level folder holds no image."""
    counts = Counter(first_folder(image) for image in scan.images)
    empty = {name for name in scan.folders if not counts[name]}
    _refuse(folder, "has no image in", empty, f"expected files ending in {few(IMAGE_SUFFIXES, 99)}")


@dataclass(frozen=True)
class FileReader:
    """Decode the image files of a split."""

    folder: Path
    paths: tuple[str, ...]

    def __call__(self, index: int) -> Tensor:
        """(3, H, W) uint8."""
        path = self.folder / self.paths[index]
        return decode_image(path, str(path))


def _refuse(folder: Path, verb: str, names: Collection[str], expected: str) -> None:
    if names:
        raise InputError(
            f"{printable(str(folder))}: {verb} {len(names)} class folder(s) ({few(names)}),"
            f" {expected}; correct the folder or data.root"
        )

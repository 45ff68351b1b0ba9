"""ImageNet, or a published part of it: a list of classes, or a list of training images."""

from __future__ import annotations

import gzip
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from linear_eval.datasets.class_folders import class_folder_split, file_split, sorted_classes
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decoding import ImageFileSettings
from linear_eval.datasets.image_files import (
    existing_folder,
    few,
)
from linear_eval.datasets.listed_files import listed_images
from linear_eval.datasets.split_folders import missing_split
from linear_eval.strict_config.source import packaged_folder
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable
from linear_eval.system.user_text import TextError, decode_text, numbered_lines, read_text

PACKAGED = ("imagenet100_cmc", "imagenet_1percent_simclr", "imagenet_10percent_simclr")
_WNID = re.compile(r"n\d{8}", re.ASCII)
_IMAGE = re.compile(r"(n\d{8})_\d+\.JPEG", re.ASCII)


class SubsetList(NamedTuple):
    """Contents of a list, sorted: classes (WNIDs) or training images; the other is None."""

    classes: tuple[str, ...] | None
    images: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class ImagenetSubsetConfig(ImageFileSettings):
    """ImageNet (ILSVRC 2012) in `root/train/WNID` and `root/val/WNID`, whole or in part.

    Attributes:
        root: the folder that holds `train` and `val`.
        subset: "all"; the name of a packaged list (imagenet100_cmc, imagenet_1percent_simclr,
            imagenet_10percent_simclr); or a text file with a WNID per line (only these classes) or
            the name of a training image per line (only these train images; val stays whole).
    """

    name: Literal["imagenet_subset"] = "imagenet_subset"
    root: str
    subset: str = "all"

    def open_train(self) -> ImageSplit:
        """The listed part of `root/train`; labels number the sorted WNIDs.

        Raises:
            InputError: a listed class or image is not there.
        """
        root = existing_folder(self.root)
        listed = read_subset(self.subset)
        if listed.images is not None:
            return self._listed_images(root, listed.images)
        return self._classes(root / "train", listed.classes)

    def open_test(self) -> ImageSplit:
        """The classes of the subset in `root/val`; with an image list, all of val."""
        root = existing_folder(self.root)
        listed = read_subset(self.subset)
        if listed.images is not None:
            return class_folder_split(
                self.name, root / "val", class_names=_all_classes(root), decoding=self.decoding
            )
        if listed.classes is not None:
            return self._classes(root / "val", listed.classes)
        _require_folder(root / "train")
        names = sorted_classes(root / "train")
        return class_folder_split(
            self.name, root / "val", class_names=names, complete=True, decoding=self.decoding
        )

    def _classes(self, folder: Path, classes: tuple[str, ...] | None) -> ImageSplit:
        if classes is not None:
            _require_folder(folder)
            missing = [wnid for wnid in classes if not (folder / wnid).is_dir()]
            if missing:
                raise InputError(
                    f"{printable(str(folder))}: lacks {len(missing)} of the {len(classes)} classes"
                    f" of data.subset={printable(self.subset)} ({few(missing)}), expected a folder"
                    " for each; complete the folder, or set another data.subset"
                )
        return class_folder_split(
            self.name, folder, class_names=classes, only=classes, decoding=self.decoding
        )

    def _listed_images(self, root: Path, names: tuple[str, ...]) -> ImageSplit:
        train = root / "train"
        _require_folder(train)
        classes = _all_classes(root)
        number = {wnid: label for label, wnid in enumerate(classes)}
        images = listed_images(
            train,
            [f"{name.partition('_')[0]}/{name}" for name in names],
            which=f"images of data.subset={printable(self.subset)}",
            remedy="complete the folder, or set another data.subset",
        )
        labels = [number[image.path.partition("/")[0]] for image in images]
        return file_split(self.name, train, images, labels, classes, decoding=self.decoding)


def read_subset(subset: str) -> SubsetList:
    """Read a packaged list by name, or any list by path; blank lines and # comments are skipped.

    Raises:
        InputError: no such list, a line that is neither a WNID nor an image name, both kinds in
            one list, a repeated line, or nothing in it.
    """
    if subset == "all":
        return SubsetList(None, None)
    lines = [line.partition("#")[0].strip() for _, line in numbered_lines(_read_text(subset))]
    names = sorted(line for line in lines if line)
    wrong = [name for name in names if not (_WNID.fullmatch(name) or _IMAGE.fullmatch(name))]
    are_images = bool(names) and bool(_IMAGE.fullmatch(names[0]))
    mixed = [name for name in names if bool(_IMAGE.fullmatch(name)) != are_images]
    repeated = [name for name, after in itertools.pairwise(names) if name == after]
    problem = (
        (not names and "is empty")
        or (wrong and f"has {len(wrong)} lines that are neither ({few(wrong)})")
        or (mixed and "has lines of both kinds")
        or (repeated and f"repeats {len(repeated)} lines ({few(repeated)})")
    )
    if problem:
        raise InputError(
            f"data.subset: '{printable(subset)}' {problem}, expected a WNID (n01440764) or an image"
            " name (n01440764_10026.JPEG) on each line; correct the list"
        )
    return SubsetList(None, tuple(names)) if are_images else SubsetList(tuple(names), None)


def _read_text(subset: str) -> str:
    if subset in PACKAGED:
        folder = packaged_folder() / "subsets"
        plain = folder / f"{subset}.txt"
        if plain.is_file():
            return read_text(plain)
        return decode_text(gzip.decompress((folder / f"{subset}.txt.gz").read_bytes()))
    try:
        return read_text(Path(subset).expanduser())
    except TextError as error:
        raise InputError(
            f"data.subset: '{printable(subset)}': {error}, expected all, {', '.join(PACKAGED)},"
            " or a text file; correct the name, or the file"
        ) from error


def _all_classes(root: Path) -> tuple[str, ...]:
    """Sorted classes of train and val: an image list may leave classes of val without images."""
    val = root / "val"
    names = set(sorted_classes(root / "train")) | set(sorted_classes(val) if val.is_dir() else ())
    return tuple(sorted(names))


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise missing_split(folder)

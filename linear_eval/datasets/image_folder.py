"""Any folder of images: `root/train` plus `root/val` or `root/test`, or images to pretrain on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from linear_eval.datasets.class_folders import class_folder_split, file_split, refuse_empty_folders
from linear_eval.datasets.dataset import DatasetSettings, ImageSplit
from linear_eval.datasets.decode import printable
from linear_eval.datasets.image_files import (
    IMAGE_SUFFIXES,
    existing_folder,
    few,
    first_folder,
    folder_names,
    scan_images,
)
from linear_eval.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ImageFolderConfig(DatasetSettings):
    """A folder of one's own images.

    With `root/train`, its folders are the classes, and `root/val` or `root/test` is judged on.
    Without it, all images below `root` are train, for pretraining only: the label is the first
    folder on the way to an image, or -1 where there is none.

    Attributes:
        root: the folder.
        test_folder: which folder is the test split; auto takes the one that is there, and asks
            where both are.
        classes: shared, train and test have the same classes; disjoint, they have none in common,
            as in the retrieval protocols of CUB, Cars and SOP (then only retrieval is evaluated).
    """

    name: Literal["image_folder"] = "image_folder"
    root: str
    test_folder: Literal["auto", "val", "test"] = "auto"
    classes: Literal["shared", "disjoint"] = "shared"

    @property
    def shares_classes(self) -> bool:
        """As `classes` says."""
        return self.classes == "shared"

    def open_train(self) -> ImageSplit:
        """`root/train`, or all of root. Images outside class folders get the label -1.

        Raises:
            InputError: no image at all, an empty class folder in `root/train`, or a test split
                without `root/train` (which would be trained on).
        """
        root = existing_folder(self.root)
        train = root / "train"
        whole_root = not train.is_dir()
        folder = root if whole_root else train
        if whole_root:
            _refuse_test_as_train(root)
        scan = scan_images(folder)
        if not scan.images:
            raise InputError(
                f"{printable(str(folder))}: holds no images, expected files ending in"
                f" {few(IMAGE_SUFFIXES, 99)}; set data.root to a folder of images"
            )
        if not whole_root:
            refuse_empty_folders(folder, scan)
        names = tuple(sorted({first_folder(image) for image in scan.images} - {""}))
        number = {name: label for label, name in enumerate(names)}
        labels = [number.get(first_folder(image), -1) for image in scan.images]
        return file_split(self.name, folder, scan.images, labels, names)

    def open_test(self) -> ImageSplit:
        """`root/val` or `root/test`; its classes are among those of `root/train`, or its own.

        Raises:
            InputError: a split is missing, images lie outside class folders, a class is empty, or
                one is not in train although they are shared.
        """
        root = existing_folder(self.root)
        train = root / "train"
        if not train.is_dir():
            raise InputError(
                f"{printable(str(train))}: missing, expected root/train plus root/val or root/test"
                " with class folders; without them the images serve for pretraining only"
            )
        _refuse_unlabelled(train)
        test = self._test_path(root)
        if not self.shares_classes:
            return class_folder_split(self.name, test)
        _refuse_other_classes(test, folder_names(train))
        return class_folder_split(self.name, test, class_names=folder_names(train))

    def _test_path(self, root: Path) -> Path:
        if self.test_folder != "auto":
            return root / self.test_folder
        found = [folder for folder in (root / "val", root / "test") if folder.is_dir()]
        if not found:
            raise InputError(
                f"{printable(str(root))}: neither val nor test is in it, expected one of them"
                " beside train; add the missing split"
            )
        if len(found) > 1:
            raise InputError(
                f"{printable(str(root))}: both val and test are in it, expected one to judge on;"
                " set data.test_folder=val or data.test_folder=test"
            )
        return found[0]


def _refuse_test_as_train(root: Path) -> None:
    found = [name for name in ("val", "test") if (root / name).is_dir()]
    if found:
        raise InputError(
            f"{printable(str(root))}: has {found[0]} but no train, expected root/train beside it;"
            " add root/train, or set data.root to the folder to pretrain on"
        )


def _refuse_other_classes(test: Path, class_names: tuple[str, ...]) -> None:
    others = set(folder_names(test)) - set(class_names) if test.is_dir() else set()
    if others:
        raise InputError(
            f"{printable(str(test))}: holds {len(others)} class folder(s) ({few(others)}) that"
            " train lacks, expected only classes of train; correct the folder, or, for retrieval"
            " of classes never seen, set data.classes=disjoint evaluators=[retrieval]"
        )


def _refuse_unlabelled(train: Path) -> None:
    loose = [image.path for image in scan_images(train, only=()).images]
    if loose:
        raise InputError(
            f"{printable(str(train))}: {len(loose)} images lie outside its class folders"
            f" ({few(loose)}), good for pretraining only; move each into its class folder"
        )

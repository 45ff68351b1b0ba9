"""Any folder of images: `root/train` plus `root/val` or `root/test`, or images to pretrain on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from linear_eval.datasets.class_folders import (
    class_folder_split,
    class_names_of,
    extract_them,
    file_split,
    holds_instead,
    refuse_empty_folders,
    refuse_other_case,
    sorted_classes,
)
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decoding import ImageFileSettings, Orientation
from linear_eval.datasets.image_files import (
    Scan,
    existing_folder,
    few,
    first_folder,
    folder_names,
    scan_images,
)
from linear_eval.datasets.image_formats import image_suffixes
from linear_eval.datasets.split_folders import (
    better_root,
    find_train,
    inner_splits,
    judged_names,
    meaning,
    taken_as,
)
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable


@dataclass(frozen=True, kw_only=True)
class ImageFolderConfig(ImageFileSettings):
    """A folder of one's own images.

    With `root/train`, its folders are the classes, and `root/val` or `root/test` is judged on.
    Without it, all images below `root` are train, for pretraining only: the label is the first
    folder on the way to an image, or -1 where there is none. Folders such as Train, valid or
    validation are taken for what they mean, and a note says so.

    Attributes:
        root: the folder.
        test_folder: name of the folder that is the test split; auto takes the one that is there,
            and asks where there are several.
        orientation: upright, as one sees them; see `ImageFileSettings`.
        classes: shared, train and test have the same classes; disjoint, they have none in common,
            as in the retrieval protocols of CUB, Cars and SOP (then only retrieval is evaluated).
    """

    name: Literal["image_folder"] = "image_folder"
    root: str
    test_folder: str = "auto"
    orientation: Orientation = "exif"
    classes: Literal["shared", "disjoint"] = "shared"

    def __post_init__(self) -> None:
        """Refuse a test folder that is no folder beside train.

        Raises:
            ValueError: a value is outside its range; the message begins with the key.
        """
        super().__post_init__()
        name = self.test_folder
        if not name or "/" in name or name in (".", "..") or meaning("train", (name,)):
            raise ValueError(
                f"test_folder: must be auto, or the name of a folder beside train, got '{name}'"
            )

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
        train, scan = find_train(root, ()), None
        if train is None:
            scan = scan_images(root)
            train = find_train(root, scan.folders)
        if train is None:
            assert scan is not None
            _refuse_test_as_train(root, scan.folders)
            return self._labelled(root, scan, _inner_notes(root, scan))
        scan = scan_images(train)
        if scan.images:
            refuse_empty_folders(train, scan)
        return self._labelled(train, scan, taken_as(train, "train"))

    def _labelled(self, folder: Path, scan: Scan, notes: tuple[str, ...]) -> ImageSplit:
        if not scan.images:
            raise InputError(
                f"{printable(str(folder))}: holds no images{holds_instead(scan)}, expected files"
                f" ending in {few(image_suffixes(), 99)}; {extract_them(scan)}set data.root to a"
                " folder of images"
            )
        used = {first_folder(image) for image in scan.images} - {""}
        name_of = class_names_of(folder, used)
        names = tuple(sorted(name_of.values()))
        number = {name: label for label, name in enumerate(names)}
        label_of = {"": -1} | {raw: number[name] for raw, name in name_of.items()}
        labels = [label_of[first_folder(image)] for image in scan.images]
        notes = (*notes, *scan.unread.notes(folder))
        return file_split(
            self.name, folder, scan.images, labels, names, notes=notes, decoding=self.decoding
        )

    def open_test(self) -> ImageSplit:
        """`root/val` or `root/test`; its classes are among those of `root/train`, or its own.

        Raises:
            InputError: a split is missing, images lie outside class folders, a class is empty, or
                one is not in train although they are shared.
        """
        root = existing_folder(self.root)
        train = find_train(root)
        if train is None:
            raise InputError(
                f"{printable(str(root / 'train'))}: missing, expected root/train plus root/val or"
                f" root/test with class folders; {_other_root(root)}"
            )
        _refuse_unlabelled(train)
        test = self._test_path(root)
        classes = sorted_classes(train)
        if self.shares_classes:
            _refuse_other_classes(test, classes)
            split = class_folder_split(self.name, test, class_names=classes, decoding=self.decoding)
        else:
            split = class_folder_split(self.name, test, decoding=self.decoding)
            refuse_other_case(test, set(split.class_names) - set(classes), classes)
        if self.test_folder == "auto" and test.name not in ("val", "test"):
            split = replace(split, notes=(*taken_as(test, "the test split"), *split.notes))
        return split

    def _test_path(self, root: Path) -> Path:
        if self.test_folder != "auto":
            if not (root / self.test_folder).is_dir():
                raise InputError(
                    f"data.test_folder: {printable(str(root / self.test_folder))} is no folder, "
                    "expected one beside train; correct the name"
                )
            return root / self.test_folder
        found = judged_names(folder_names(root))
        if not found:
            raise InputError(
                f"{printable(str(root))}: neither val nor test is in it, expected one of them"
                " beside train; add the missing split"
            )
        if len(found) > 1:
            raise InputError(
                f"{printable(str(root))}: both {' and '.join(map(printable, found))} are in it,"
                " expected one to judge on; set "
                + " or ".join(f"data.test_folder={printable(name)}" for name in found)
            )
        return root / found[0]


def _other_root(root: Path) -> str:
    better = better_root(root)
    if better is None:
        return "without them the images serve for pretraining only"
    return f"set data.root={printable(str(better))}"


def _inner_notes(root: Path, scan: Scan) -> tuple[str, ...]:
    """A note if test images may be among the training images."""
    inner = inner_splits(scan.places)
    if not inner:
        return ()
    return (
        f"{printable(str(root))}: all images below it are taken, those of test splits too"
        f" ({few(inner)} has train beside them); data.root={printable(str(root / inner[0]))} would"
        " keep them apart",
    )


def _refuse_test_as_train(root: Path, folders: Collection[str]) -> None:
    found = judged_names(folders)
    if found:
        raise InputError(
            f"{printable(str(root))}: has {printable(found[0])} but no train, expected root/train"
            " beside it; add root/train, or set data.root to the folder to pretrain on"
        )


def _refuse_other_classes(test: Path, classes: tuple[str, ...]) -> None:
    others = set(sorted_classes(test)) - set(classes) if test.is_dir() else set()
    refuse_other_case(test, others, classes)
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

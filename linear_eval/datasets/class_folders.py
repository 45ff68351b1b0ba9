"""Image files in class folders: what the data sets stored as files are made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from linear_eval.datasets.contents import Contents, FileContents
from linear_eval.datasets.dark_images import dark_note
from linear_eval.datasets.dataset import ImageSplit, fingerprint_of
from linear_eval.datasets.decode import decode_image, read_image_file
from linear_eval.datasets.decoding import Decoding
from linear_eval.datasets.image_files import (
    FoundImage,
    Scan,
    few,
    first_folder,
    folder_names,
    one_form,
    scan_images,
)
from linear_eval.datasets.image_formats import image_suffixes
from linear_eval.datasets.split_folders import missing_split
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable
from linear_eval.system.user_text import ARCHIVES

if TYPE_CHECKING:
    from torch import Tensor


def file_split(
    data_set: str,
    folder: Path,
    images: Sequence[FoundImage],
    labels: Sequence[int],
    class_names: tuple[str, ...],
    *,
    decoding: Decoding,
    notes: tuple[str, ...] = (),
) -> ImageSplit:
    """A split of image files below `folder`, decoded when read."""
    ids = tuple(image.path for image in images)
    targets = torch.tensor(labels, dtype=torch.int64)
    files = FileContents(folder, ids, [image.stamp for image in images])
    return ImageSplit(
        ids=ids,
        labels=targets,
        class_names=class_names,
        read=FileReader(files, decoding),
        fingerprint=fingerprint_of(data_set, ids, targets, files.stamps[:, 0].tolist()),
        folder=folder.absolute(),
        contents=Contents.of(files),
        notes=(*notes, *dark_note(folder, images, decoding)),
        decoding=decoding.identity(),
    )


def class_folder_split(
    data_set: str,
    folder: Path,
    *,
    decoding: Decoding,
    class_names: tuple[str, ...] | None = None,
    only: Collection[str] | None = None,
    complete: bool = False,
) -> ImageSplit:
    """A labelled split: each first-level folder of `folder` is a class, however deep its images.

    Args:
        data_set: name of the data set.
        folder: the split's folder.
        decoding: how its files are read.
        class_names: the classes allowed, in the order of their labels; None takes those found,
            sorted; in the one Unicode form of `class_names_of`.
        only: folders to enter, see `scan_images`.
        complete: every one of `class_names` must be there.

    Raises:
        InputError: the folder is missing or without classes, an image lies outside the class
            folders, a class has no image, is not allowed, or is missing, or two are one.
    """
    if not folder.is_dir():
        raise missing_split(folder)
    scan = scan_images(folder, only=only)
    refuse_loose_images(folder, scan)
    if not scan.folders:
        raise InputError(
            f"{printable(str(folder))}: holds no class folders{holds_instead(scan)}, expected one"
            f" folder per class; {extract_them(scan)}check data.root and data.name"
        )
    name_of = class_names_of(folder, scan.folders)
    found = set(name_of.values())
    names = tuple(sorted(found)) if class_names is None else class_names
    refuse_empty_folders(folder, scan)
    refuse_other_case(folder, found - set(names), names)
    _refuse(folder, "holds", found - set(names), "expected only classes of train")
    if complete:
        _refuse(folder, "lacks", set(names) - found, f"expected {len(names)} classes")
    number = {name: label for label, name in enumerate(names)}
    label_of = {raw: number[name] for raw, name in name_of.items()}
    labels = [label_of[first_folder(image)] for image in scan.images]
    return file_split(
        data_set,
        folder,
        scan.images,
        labels,
        names,
        decoding=decoding,
        notes=scan.unread.notes(folder),
    )


def class_names_of(folder: Path, folders: Collection[str]) -> dict[str, str]:
    """The class of each first-level folder: its name in one Unicode form.

    Raises:
        InputError: two folders have the same name in that form.
    """
    classes: dict[str, str] = {}
    for name in sorted(folders):
        one = one_form(name)
        if one in classes:
            raise InputError(
                f"{printable(str(folder))}: holds '{printable(one)}' twice, as"
                f" {classes[one]!a} and {name!a} (two Unicode forms of one name),"
                " expected one folder per class; move the images into one of them"
            )
        classes[one] = name
    return {raw: one for one, raw in classes.items()}


def sorted_classes(folder: Path) -> tuple[str, ...]:
    """Classes of a folder of class folders, sorted, without a look into any of them."""
    return tuple(sorted(class_names_of(folder, folder_names(folder)).values()))


def refuse_other_case(folder: Path, others: Collection[str], classes: Collection[str]) -> None:
    """Raise InputError when a class folder has the name of a class of train in other letters."""
    of_train = {name.casefold(): name for name in classes}
    pairs = [(of_train[name.casefold()], name) for name in others if name.casefold() in of_train]
    if pairs:
        ours, theirs = min(pairs)
        raise InputError(
            f"{printable(str(folder))}: holds '{printable(theirs)}' where train has"
            f" '{printable(ours)}' ({len(pairs)} such pair(s)), expected the same letters in both;"
            " rename one of the two folders"
        )


def holds_instead(scan: Scan) -> str:
    """What a folder without images or classes holds, for a message: " (9 .txt)", or nothing."""
    return f" ({scan.unread.summary()})" if scan.unread.kinds else ""


def extract_them(scan: Scan) -> str:
    """Advice to extract the archives that lie in place of images; otherwise nothing."""
    kinds = scan.unread.kinds
    return "extract the archives in it, or " * any(kind in ARCHIVES for kind in kinds)


def refuse_loose_images(folder: Path, scan: Scan) -> None:
    """Raise InputError when images lie directly in a folder of class folders."""
    loose = [image.path for image in scan.images if not first_folder(image)]
    if loose:
        raise InputError(
            f"{printable(str(folder))}: {len(loose)} images lie directly in it"
            f" ({few(loose)}), expected each in its class folder; {_sorting(loose)}"
        )


def refuse_empty_folders(folder: Path, scan: Scan) -> None:
    """Raise InputError when a first-level folder holds no image, or is a link to nothing.

    As torchvision.datasets.ImageFolder does by default.
    """
    broken = [path for path in scan.unread.broken_links if "/" not in path and "." not in path]
    _refuse(folder, "has links to nothing in place of", broken, "expected folders of images")
    counts = Counter(first_folder(image) for image in scan.images)
    empty = {name for name in scan.folders if not counts[name]}
    expected = f"expected files ending in {few(image_suffixes(), 99)}"
    _refuse(folder, "has no image in", empty, expected)


def _sorting(loose: list[str]) -> str:
    if not all(name.startswith("ILSVRC2012_val_") for name in loose):
        return "move or remove them"
    return (
        "sort them into WNID folders by the published ground truth: as"
        " torchvision.datasets.ImageNet(ROOT, 'val') or the script valprep.sh do"
    )


@dataclass(frozen=True, eq=False)
class FileReader:
    """Decode the image files of a split."""

    files: FileContents
    decoding: Decoding

    def __call__(self, index: int) -> Tensor:
        """(3, H, W) uint8; the digest of the file's bytes is noted."""
        path = self.files.folder / self.files.paths[index]
        content = read_image_file(path, str(path))
        self.files.note(index, content)
        return decode_image(content, str(path), self.decoding)


def _refuse(folder: Path, verb: str, names: Collection[str], expected: str) -> None:
    if names:
        raise InputError(
            f"{printable(str(folder))}: {verb} {len(names)} class folder(s) ({few(names)}),"
            f" {expected}; correct the folder or data.root"
        )

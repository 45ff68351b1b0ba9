"""Which images a folder has, their classes, and which of them it sets apart for judging."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.image_files import few, folder_names
from linear_eval.datasets.image_folder import ImageFolderConfig
from linear_eval.datasets.split_folders import find_train, meaning
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable

if TYPE_CHECKING:
    from torch import Tensor

TRAIN, HOLDOUT, TEST = "train", "holdout", "test"


@dataclass(frozen=True, eq=False)
class Image:
    """One image of the folder.

    Attributes:
        split: that reads it.
        row: of it there.
        part: train, holdout or test; "" where the folder does not say.
        class_name: "" where it has none.
    """

    split: ImageSplit
    row: int
    part: str
    class_name: str

    @property
    def name(self) -> str:
        """Its path below the place where the split lies."""
        return self.split.ids[self.row]

    @property
    def path(self) -> Path:
        """Of its file."""
        assert self.split.folder is not None
        return self.split.folder / self.name

    def read(self) -> Tensor:
        """(3, H, W) uint8; see `ImageSplit.read`."""
        return self.split.read(self.row)


@dataclass(frozen=True, eq=False)
class Found:
    """The images of a folder; `notes` say what was made of it."""

    images: tuple[Image, ...]
    is_labelled: bool
    notes: tuple[str, ...]


def find_images(folder: Path, *, labels: bool = True) -> Found:
    """Look through a folder, without opening a file.

    Args:
        folder: class folders; or train/ and perhaps val/ and test/ with class folders in them; or
            images without classes.
        labels: whether folders are taken for classes.

    Raises:
        InputError: there is no image, or there is one class.
    """
    splits = {
        part: ImageFolderConfig(root=str(place)).open_train()
        for part, place in _places(folder).items()
    }
    classes = splits.get(TRAIN, splits.get("")).class_names  # type: ignore[union-attr]
    images = [
        Image(split, row, part, split.class_names[label] if labels and label >= 0 else "")
        for part, split in splits.items()
        for row, label in enumerate(split.labels.tolist())
    ]
    if not labels or not classes:
        return Found(tuple(replace(each, part="") for each in images), False, ())
    if len(classes) == 1:
        raise InputError(
            f"{printable(str(folder))}: has one class ({printable(classes[0])}), expected two or "
            "more class folders; add one, or give --no-labels to ask what can be known without"
        )
    notes = []
    if loose := sum(not each.class_name for each in images):
        notes.append(f"{loose} images lie in no class folder and are left out")
        images = [each for each in images if each.class_name]
    others = sorted({each.class_name for each in images} - {*classes})
    if others:
        notes.append(
            f"{len(others)} classes are not among those of train ({few(others)}): all images are "
            "put together and split anew"
        )
        images = [replace(each, part="") for each in images]
    return Found(tuple(images), True, tuple(notes))


def _places(folder: Path) -> dict[str, Path]:
    """The folder of each part; "" stands for a folder without parts."""
    if not folder.is_dir():
        raise InputError(
            f"FOLDER: {printable(str(folder))} is no folder, expected one of images; give its path"
        )
    train = find_train(folder)
    if train is None:
        return {"": folder}
    names = folder_names(folder)
    held, tested = meaning("val", names), meaning("test", names)
    for found in (held, tested):
        if len(found) > 1:
            raise InputError(
                f"{printable(str(folder))}: holds {few(found)}, expected one of them; rename one"
            )
    places = {TRAIN: train}
    if held and tested:
        places[HOLDOUT] = folder / held[0]
    if held or tested:
        places[TEST] = folder / (tested or held)[0]
    return places

"""Data sets that torchvision reads, by its names for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from linear_eval.datasets.dataset import DatasetSettings, ImageSplit
from linear_eval.datasets.decode import OR_SKIP, PILLOW_FAILURES, BadImageError
from linear_eval.datasets.given_split import given_split
from linear_eval.datasets.image_files import existing_folder
from linear_eval.system.errors import InputError
from linear_eval.system.printable import one_line, printable

Name = Literal[
    "Country211",
    "DTD",
    "FGVCAircraft",
    "FashionMNIST",
    "Flowers102",
    "Food101",
    "GTSRB",
    "KMNIST",
    "MNIST",
    "OxfordIIITPet",
    "RenderedSST2",
    "STL10",
    "SVHN",
    "StanfordCars",
]
_BY_FLAG = ("FashionMNIST", "KMNIST", "MNIST")  # train=True or False
_TRAIN = {"OxfordIIITPet": "trainval", "FGVCAircraft": "trainval"}  # as torchvision has it: train
_FAILURES = (RuntimeError, OSError, ValueError, KeyError, ImportError)


@dataclass(frozen=True, kw_only=True)
class TorchvisionConfig(DatasetSettings):
    """A data set of torchvision.datasets, in the folders where torchvision keeps it.

    Its pixels are hashed once when a split is opened, because torchvision says nothing of their
    identity. Those that it reads from pickled files (CIFAR) are left out.

    Attributes:
        root: the folder that torchvision calls root.
        dataset: torchvision's name of it.
        download: let torchvision fetch it into root if it is not there.
    """

    name: Literal["torchvision"] = "torchvision"
    root: str
    dataset: Name
    download: bool = False

    def open_train(self) -> ImageSplit:
        """Torchvision's train, or trainval where it has no train alone.

        Raises:
            InputError: torchvision does not find it, or cannot read it.
        """
        return self._open(_TRAIN.get(self.dataset, "train"))

    def open_test(self) -> ImageSplit:
        """Torchvision's test."""
        return self._open("test")

    def _open(self, split: str) -> ImageSplit:
        from torchvision import datasets

        root = Path(self.root).expanduser() if self.download else existing_folder(self.root)
        make: Any = getattr(datasets, self.dataset)
        keys = {"train": split == "train"} if self.dataset in _BY_FLAG else {"split": split}
        try:
            found = make(str(root), download=self.download, **keys)
        except _FAILURES as error:
            raise InputError(
                f"data.root: torchvision cannot read {self.dataset} in {printable(str(root))}"
                f" ({one_line(str(error))}), expected it as torchvision keeps it; correct"
                " data.root, or set data.download=true"
            ) from error
        name = f"torchvision's {self.dataset}"
        max_bad = self.max_bad if self.on_bad_image == "skip" else None
        readable = _Readable(
            found, name, getattr(found, "targets", None), getattr(found, "classes", None)
        )
        opened = given_split(readable, name, max_bad=max_bad)  # type: ignore[arg-type]  # no torch here
        return replace(opened, ids=tuple(f"{self.dataset}/{split}/{each}" for each in opened.ids))


@dataclass(frozen=True, eq=False)
class _Readable:
    """A data set of torchvision that says in one line which image it cannot read."""

    images: Any
    name: str
    targets: Any
    classes: Any

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.images[index]
        except PILLOW_FAILURES as error:
            reason = one_line(str(error)) or type(error).__name__
            raise BadImageError(
                f"{self.name}: image {index} cannot be read ({reason}), expected a whole image"
                f" file; fetch the data set again{OR_SKIP}"
            ) from error

"""CIFAR-10 and CIFAR-100: the published binary archive, or a tree of JPEG files."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from linear_eval.datasets.cifar_binary import (
    CIFAR10,
    CIFAR100,
    BinaryForm,
    binary_source,
    download_archive,
    read_binary,
)
from linear_eval.datasets.class_folders import class_folder_split
from linear_eval.datasets.dataset import DatasetSettings, ImageSplit
from linear_eval.datasets.decode import AS_STORED
from linear_eval.datasets.image_files import existing_folder
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable


@dataclass(frozen=True, kw_only=True)
class _CifarSettings(DatasetSettings):
    """What both sets have in common.

    `root` holds the binary archive (.tar.gz or extracted), whose pixels are the published ones, or
    else `train/CLASS/*.jpg` and `test/CLASS/*.jpg`. Where both are, the archive is read.

    Attributes:
        root: the folder.
        download: fetch the binary archive from its publisher into `root` if no data is there.
    """

    root: str
    download: bool = False

    @abstractmethod
    def _form(self) -> BinaryForm: ...

    def open_train(self) -> ImageSplit:
        """50,000 images of 32 x 32 pixels."""
        return self._open("train")

    def open_test(self) -> ImageSplit:
        """10,000 images of 32 x 32 pixels."""
        return self._open("test")

    def _open(self, split: Literal["train", "test"]) -> ImageSplit:
        form = self._form()
        may_create = self.download and self.root
        root = Path(self.root).expanduser() if may_create else existing_folder(self.root)
        source = binary_source(root, form)
        has_tree = (root / "train").is_dir() or (root / "test").is_dir()
        if source is None and self.download and not has_tree:
            source = download_archive(root, form)
        if source is not None:
            return read_binary(source, form, split)
        if has_tree:
            return class_folder_split(
                form.name,
                root / split,
                class_names=form.class_names,
                complete=True,
                decoding=AS_STORED,
            )
        pickled = [name for name in form.pickled if (root / name).exists()]
        wrong = f"holds the pickled version ({pickled[0]})" if pickled else "holds no data set"
        raise InputError(
            f"{printable(str(root))}: {wrong}, expected {form.archive} or {form.folder}/ (the"
            " binary version), or train/CLASS/*.jpg and test/CLASS/*.jpg; take the binary version"
            f" from {form.url}, or set data.download=true"
        )


@dataclass(frozen=True, kw_only=True)
class Cifar10Config(_CifarSettings):
    """CIFAR-10: 10 classes. Source: Krizhevsky 2009."""

    name: Literal["cifar10"] = "cifar10"

    def _form(self) -> BinaryForm:
        return CIFAR10


@dataclass(frozen=True, kw_only=True)
class Cifar100Config(_CifarSettings):
    """CIFAR-100 with its 100 fine classes. Source: Krizhevsky 2009."""

    name: Literal["cifar100"] = "cifar100"

    def _form(self) -> BinaryForm:
        return CIFAR100

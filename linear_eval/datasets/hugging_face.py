"""Folders of Hugging Face `datasets` on the disk: arrow or parquet files, read as they are."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from linear_eval.datasets.arrow_files import (
    RowGroup,
    class_names,
    column_names,
    column_values,
    image_bytes,
    row_groups,
)
from linear_eval.datasets.dataset import ImageSplit, fingerprint_of
from linear_eval.datasets.decode import decode_image
from linear_eval.datasets.decoding import Decoding, ImageFileSettings
from linear_eval.datasets.image_files import existing_folder, few
from linear_eval.system.errors import InputError
from linear_eval.system.printable import one_line, printable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class HuggingFaceConfig(ImageFileSettings):
    """What `save_to_disk` writes (arrow), or a downloaded repository with parquet files.

    Arrow: `root/SPLIT/*.arrow`. Parquet: `root/SPLIT-*.parquet`, also in `root/data`. Nothing is
    fetched, and no code of the data set is run; pyarrow reads the files (extra `hf`).

    Attributes:
        root: the folder.
        train: the split to learn from.
        test: the split to be judged on.
        image: the column of images.
        label: the column of classes; null: there are no labels, for pretraining.
    """

    name: Literal["hugging_face"] = "hugging_face"
    root: str
    train: str = "train"
    test: str = "test"
    image: str = "image"
    label: str | None = "label"

    def open_train(self) -> ImageSplit:
        """The split `train`.

        Raises:
            InputError: pyarrow or the split is missing, a file cannot be read, or a column is not
                what its name says.
        """
        return self._open(self.train, "data.train")

    def open_test(self) -> ImageSplit:
        """The split `test`; its label numbers are those of train."""
        return self._open(self.test, "data.test")

    def _open(self, split: str, key: str) -> ImageSplit:
        root = existing_folder(self.root)
        try:
            import pyarrow
        except ModuleNotFoundError as error:
            raise InputError(
                "data.name: hugging_face reads arrow and parquet files, expected pyarrow, which is"
                " not installed; pip install 'ssl-bf[hf]'"
            ) from error
        files = _files_of(root, split, key)
        train = files if split == self.train else _files_of(root, self.train, "data.train")
        try:
            groups = [group for file in files for group in row_groups(file)]
            _check_column(files, self.image, "data.image")
            names, labels = self._labels(train, files)
        except (pyarrow.ArrowException, OSError) as error:
            raise InputError(
                f"{printable(str(files[0].parent))}: files of {printable(split)} cannot be read"
                f" ({one_line(str(error))}), expected whole arrow or parquet files; fetch them"
                " again"
            ) from error
        count = sum(group.rows for group in groups)
        ids = tuple(f"{split}/{row:08d}" for row in range(count))
        targets = torch.tensor(labels if self.label else [-1] * count, dtype=torch.int64)
        sizes = [file.stat().st_size for file in files]
        return ImageSplit(
            ids=ids,
            labels=targets,
            class_names=names,
            read=_Reader(groups, self.image, self.decoding, ids),
            fingerprint=fingerprint_of(self.name, ids, targets, sizes),
            decoding=self.decoding.identity(),
        )

    def _labels(self, train: list[Path], files: list[Path]) -> tuple[tuple[str, ...], list[int]]:
        """The classes, and the label of each row."""
        if self.label is None:
            return (), []
        column = self.label
        _check_column([*train, *files], column, "data.label")
        values = [value for file in files for value in column_values(file, column)]
        names = class_names(train[0], column)
        if names is not None:
            number: dict[Any, int] = {label: label for label in range(-1, len(names))}
        else:
            known = {value for file in train for value in column_values(file, column)}
            order = sorted(known, key=lambda value: (str(type(value)), value))
            number = {value: label for label, value in enumerate(order)}
            names = tuple(map(str, order))
        strange = [value for value in values if value not in number or isinstance(value, float)]
        if strange:
            raise InputError(
                f"{printable(str(files[0].parent))}: column '{printable(column)}' has"
                f" {len(strange)} values that are no class of train"
                f" ({printable(str(strange[0]))}), expected one in each row; set data.label, or"
                " correct the data set"
            )
        return names, [number[value] for value in values]


class _Reader:
    """Decode an image where it lies."""

    def __init__(
        self, groups: Sequence[RowGroup], column: str, decoding: Decoding, ids: tuple[str, ...]
    ) -> None:
        self._groups = groups
        self._ends = list(accumulate(group.rows for group in groups))
        self._column = column
        self._decoding = decoding
        self._ids = ids

    def __call__(self, index: int) -> Tensor:
        """(3, H, W) uint8."""
        number = bisect_right(self._ends, index)
        group = self._groups[number]
        content = image_bytes(group, index - self._ends[number] + group.rows, self._column)
        return decode_image(content, f"{group.file}, {self._ids[index]}", self._decoding)


def _files_of(root: Path, split: str, key: str) -> list[Path]:
    found = sorted((root / split).glob("*.arrow"))
    for folder in (root, root / "data", root / split):
        if not found:
            found = sorted([*folder.glob(f"{split}-*.parquet"), *folder.glob(f"{split}.parquet")])
    if not found:
        arrow = {file.parent.name for file in root.glob("*/*.arrow")}
        parquet = [*root.glob("*.parquet"), *root.glob("data/*.parquet")]
        there = few(arrow | {file.stem.partition("-")[0] for file in parquet}, 10)
        raise InputError(
            f"{key}: '{printable(split)}' is not in {printable(str(root))} (which has"
            f" {there or 'no arrow or parquet files'}), expected {printable(split)}/*.arrow or"
            f" {printable(split)}-*.parquet; correct {key} or data.root"
        )
    return found


def _check_column(files: Sequence[Path], column: str, key: str) -> None:
    for file in files:
        if column not in column_names(file):
            raise InputError(
                f"{key}: '{printable(column)}' is no column of {printable(str(file))}, expected one"
                f" of {few(column_names(file), 10)}; set {key}"
            )

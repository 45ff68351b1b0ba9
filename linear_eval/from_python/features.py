"""A table of features, as Python programs hold it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from linear_eval.datasets.given_images import require
from linear_eval.features.table import FeatureTable
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Features:
    """One row per image; also to be made of features that come from elsewhere.

    Attributes:
        x: (M, D) floats on the CPU.
        labels: (M,) int64, an index into `class_names`; -1 for none.
        ids: M names: paths below the folder, or the numbers of a data set's items.
        class_names: in the order of the labels; empty: only the numbers are known.
        views: features (M, D) of the same images in random crops, if they were asked for.
    """

    x: Tensor
    labels: Tensor
    ids: Sequence[str] = ()
    class_names: tuple[str, ...] = ()
    views: tuple[Tensor, ...] = ()

    def __post_init__(self) -> None:
        """Refuse columns that do not belong together.

        Raises:
            InputError: they do not.
        """
        for name, column in (("x", self.x), ("labels", self.labels)):
            require(name, column, torch.Tensor, "a tensor; torch.as_tensor makes one of a list")
        if self.x.ndim != 2 or not self.x.dtype.is_floating_point:
            raise InputError(
                f"x: is {tuple(self.x.shape)} of {self.x.dtype}, expected floats (images, width); "
                "flatten what a network gives"
            )
        if self.labels.dtype != torch.int64:
            raise InputError(f"labels: are {self.labels.dtype}, expected int64; convert them")
        if not self.ids:
            object.__setattr__(self, "ids", tuple(map(str, range(len(self.x)))))
        sizes = [len(each) for each in (self.labels, self.ids, *self.views)]
        if any(size != len(self.x) for size in sizes):
            raise InputError(
                f"features: {len(self.x)} rows, {sizes[0]} labels and {sizes[1]} ids, expected as "
                "many of each; give those of the same images"
            )

    def __len__(self) -> int:
        """M."""
        return len(self.x)

    @property
    def table(self) -> FeatureTable:
        """The same for the evaluators."""
        return FeatureTable(
            features=self.x, labels=self.labels, ids=tuple(self.ids), views=self.views
        )

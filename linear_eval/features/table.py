"""Images of a split -> features (M, D): by a frozen backbone, or the pixels themselves.

Shapes: N images of a batch, M images of a split, D feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.images.batches import ImageBatches
from linear_eval.system.errors import InputError
from linear_eval.system.screen import progress_bar

if TYPE_CHECKING:
    from torch import Tensor, nn

PIXELS_SIDE = 32  # the baseline "pixels" looks at images of at most this many pixels a side

Embed = Callable[["Tensor"], "Tensor"]
"""Images (N, 3, H, W) uint8 -> features (N, D) on any device."""

FeatureDtype = Literal["float32", "float16"]


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """One row per image.

    Attributes:
        features: (M, D) float32 or float16 on the CPU; may be a file mapped into memory.
        labels: (M,) int64.
        ids: M names.
        read_from: the folder of a feature store, if they were not computed just now.
        is_checked: whether the images are known to be those that the features were made from; false
            for tables that an earlier version stored.
        views: features (M, D) of the same images in augmented views, one tensor per pass.
    """

    features: Tensor
    labels: Tensor
    ids: tuple[str, ...]
    read_from: Path | None = None
    is_checked: bool = True
    views: tuple[Tensor, ...] = ()

    def select(self, rows: Tensor) -> FeatureTable:
        """Some rows, (K,) int64, copied."""
        return FeatureTable(
            features=self.features[rows],
            labels=self.labels[rows],
            ids=tuple(self.ids[row] for row in rows.tolist()),
            views=tuple(view[rows] for view in self.views),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureTables:
    """Features of the parts of a data set, as one backbone has them; None: not there, or not used.

    Attributes:
        test: the whole split; in retrieval, the queries.
        train: without its hold-out.
        holdout: the part of train that chooses.
        gallery: the data set's own, of retrieval.
    """

    test: FeatureTable
    train: FeatureTable | None = None
    holdout: FeatureTable | None = None
    gallery: FeatureTable | None = None

    @property
    def by_name(self) -> dict[str, FeatureTable]:
        """Those that there are."""
        parts = {
            "train": self.train,
            "holdout": self.holdout,
            "test": self.test,
            "gallery": self.gallery,
        }
        return {name: table for name, table in parts.items() if table is not None}

    @property
    def whole(self) -> tuple[FeatureTable, ...]:
        """Train with its hold-out, as tables one below the other."""
        assert self.train is not None, "the features of train are not there"
        if self.holdout is None or not len(self.holdout.labels):
            return (self.train,)
        return self.train, self.holdout

    @property
    def whole_labels(self) -> Tensor:
        """(M,) of `whole`."""
        return torch.cat([table.labels for table in self.whole])


def not_checked(folder: Path | str) -> str:
    """What there is to say of features whose images may be others by now."""
    return (
        "stored by an earlier version, which did not keep what the images held; if any changed "
        f"since, delete {folder}"
    )


def joined(tables: Sequence[FeatureTable]) -> FeatureTable:
    """One table of several, one below the other, copied."""
    return FeatureTable(
        features=torch.cat([table.features for table in tables]),
        labels=torch.cat([table.labels for table in tables]),
        ids=tuple(name for table in tables for name in table.ids),
        views=tuple(map(torch.cat, zip(*(table.views for table in tables), strict=True))),
    )


def collect_features(
    embed: Embed, batches: ImageBatches, label: str = "", dtype: FeatureDtype = "float32"
) -> FeatureTable:
    """Run `embed` over all batches, with a progress bar when a terminal is attached.

    Raises:
        InputError: see `ImageBatches` and `checked_rows`; or no image could be read.
    """
    kept: list[Tensor] = []
    rows: list[Tensor] = []
    with progress_bar(batches.embedded(embed), label, len(batches), unit="batch") as progress:
        for index, features, _ in progress:
            kept.append(index)
            rows.append(checked_rows(features, index, batches.split, dtype))
    if not kept:
        raise nothing_readable(batches.split)
    if batches.split.contents is not None:
        batches.split.contents.digests()  # what could not be read, or another process could not
    index = torch.cat(kept)
    return FeatureTable(
        features=torch.cat(rows),
        labels=batches.split.labels[index],
        ids=tuple(batches.split.ids[i] for i in index.tolist()),
    )


def checked_rows(features: Tensor, index: Tensor, split: ImageSplit, dtype: FeatureDtype) -> Tensor:
    """Features (N, D) float32 of images `index` (N,) of a split, in the dtype that is kept.

    Raises:
        InputError: a value is NaN or infinite, or too large for float16.
    """
    bad = (~features.isfinite()).any(dim=1)
    if bad.any():
        raise InputError(
            f"features: {int(bad.sum())} of the {len(features)} images of a batch have NaN or "
            f"infinite values, the first is '{_first_id(bad, index, split)}', expected finite "
            "features; look at the backbone and at that image"
        )
    if dtype == "float32":
        return features
    halves = features.half()
    bad = halves.isinf().any(dim=1)
    if bad.any():
        raise InputError(
            f"features.dtype: float16 ends at 65504, and {int(bad.sum())} of the {len(features)} "
            f"images of a batch have larger values (up to {float(features.abs().max()):.6g}), the "
            f"first is '{_first_id(bad, index, split)}'; set features.dtype=float32"
        )
    return halves


def nothing_readable(split: ImageSplit) -> InputError:
    """The error of a split without a single image that can be read."""
    return InputError(f"data: none of the {len(split)} images could be read; look at the files")


def _first_id(bad: Tensor, index: Tensor, split: ImageSplit) -> str:
    return split.ids[int(index[bad][0])]


@contextmanager
def frozen(
    backbone: nn.Module,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    device: torch.device,
) -> Iterator[Embed]:
    """`backbone` as a function of uint8 images, in eval mode; the modes are restored after it."""
    backbone.to(device)
    modes = [(module, module.training) for module in backbone.modules()]
    shift, scale = (torch.tensor(x, device=device).view(1, 3, 1, 1) for x in (mean, std))

    def embed(images: Tensor) -> Tensor:
        # autocast off: the caller may be a training loop in bf16
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            features: Tensor = backbone((images.to(device).float() / 255 - shift) / scale)
        return features

    backbone.eval()
    try:
        yield embed
    finally:
        for module, training in modes:
            module.training = training


def raw_pixels(images: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 -> (N, 3*h*w) float32 in [0, 1]; h, w <= 32 by box averages.

    Nothing is centred or scaled: cosine k-NN looks at directions only.
    """
    height, width = images.shape[-2:]
    size = (min(height, PIXELS_SIDE), min(width, PIXELS_SIDE))
    return torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, size).flatten(1)

"""The augmented views of the published linear probes: a random resized crop and a mirror.

What is drawn for an image depends on (seed, epoch, image) alone: not on its batch, on the images
before it, or on whether the extraction was interrupted.

Shapes: H x W pixels of an image, S x S of its view.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.images.crop_boxes import crop_box

if TYPE_CHECKING:
    from torch import Tensor

MIN_SCALE = 0.08  # of the image's area


@dataclass(frozen=True, kw_only=True)
class TrainView:
    """One view of every image in one epoch.

    Attributes:
        size: S.
        seed: of all epochs.
        epoch: >= 0; each draws anew.

    Source: He et al. 2020 (MoCo, arXiv 1911.05722), Chen et al. 2021 (MoCo v3, arXiv 2104.02057),
    Chen and He 2021 (SimSiam, arXiv 2011.10566): their linear classifiers train on torchvision's
    RandomResizedCrop and RandomHorizontalFlip with default settings.
    Differs: crops are resized as tensors (antialiased, on uint8), which is one gray level from
    what Pillow does at most.
    """

    size: int
    seed: int = 0
    epoch: int = 0

    def apply(self, image: Tensor, name: str) -> Tensor:
        """(3, H, W) uint8 of the image called `name` -> (3, S, S) uint8."""
        draw = self._generator(name)
        height, width = image.shape[-2:]
        top, left, box_height, box_width = crop_box(height, width, MIN_SCALE, draw)
        crop = image[None, :, top : top + box_height, left : left + box_width]
        view = torch.nn.functional.interpolate(
            crop, (self.size, self.size), mode="bilinear", antialias=True
        )[0]
        return view.flip(-1) if draw.random() < 0.5 else view

    def of(self, split: ImageSplit) -> ImageSplit:
        """The same split, whose images are replaced by their views."""
        return replace(split, read=_ViewReader(split.read, split.ids, self), pixels=None)

    def _generator(self, name: str) -> random.Random:
        # the seed's length is fixed by the separators: no name holds a zero byte
        key = f"{self.seed}\0{self.epoch}\0{name}".encode("utf-8", "surrogateescape")
        return random.Random(int.from_bytes(hashlib.blake2b(key, digest_size=16).digest()))


@dataclass(frozen=True, eq=False)
class _ViewReader:
    read: Callable[[int], Tensor]
    ids: tuple[str, ...]
    view: TrainView

    def __call__(self, index: int) -> Tensor:
        return self.view.apply(self.read(index), self.ids[index])

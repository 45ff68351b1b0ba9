"""The crops of small images in supervised training: pad, cut, mirror, AutoAugment, Cutout.

Shapes: N images of a batch, S x S pixels of a view, which are those of an image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from ssl_bf.pixels.packed_images import Images, PackedImages
from ssl_bf.views.auto_augment import AutoAugments

PAD = 4  # black pixels on every side


@dataclass(frozen=True, eq=False)
class PaddedCrops:
    """What is done to N images, in this order; tensors on the CPU.

    Attributes:
        corner: (N, 2) int64, top and left of the view in the padded image, in [0, 2 * PAD].
        flip: (N,) bool, mirrored left to right.
        augments: AutoAugment, or None.
        hole: (N, 2) int64, row and column around which pixels are cut out, see `cut_out`.
        hole_side: in pixels; 0 leaves it out.
        fill: of what is cut out, per channel in [0, 1].
    """

    corner: Tensor
    flip: Tensor
    augments: AutoAugments | None
    hole: Tensor
    hole_side: int
    fill: tuple[float, float, float]

    def __getitem__(self, rows: slice) -> PaddedCrops:
        """Those of some of the images."""
        return replace(
            self,
            corner=self.corner[rows],
            flip=self.flip[rows],
            augments=None if self.augments is None else self.augments[rows],
            hole=self.hole[rows],
        )

    def views(self, images: Images | PackedImages, size: int) -> Tensor:
        """N images (3, S, S) uint8 -> (N, 3, S, S) float32 in [0, 1]."""
        assert not isinstance(images, PackedImages), "packed images of one size are a batch"
        pixels = images if isinstance(images, Tensor) else torch.stack(list(images))
        assert pixels.shape[-2:] == (size, size), (tuple(pixels.shape), size)
        views = pad_and_crop(pixels, self.corner, self.flip)
        if self.augments is not None:
            views = self.augments.apply(views)
        scaled = views.to(torch.float32).div_(255)
        return cut_out(scaled, self.hole, self.hole_side, self.fill) if self.hole_side else scaled


def pad_and_crop(images: Tensor, corner: Tensor, flip: Tensor) -> Tensor:
    """Cut a view of the same size out of every padded image, maybe mirror it.

    Args:
        images: (N, C, S, S) of any type.
        corner: (N, 2) int64, top and left, in [0, 2 * PAD].
        flip: (N,) bool.

    Returns:
        (N, C, S, S).
    """
    size, device = images.shape[-1], images.device
    padded = functional.pad(images, (PAD, PAD, PAD, PAD))
    pixels = torch.arange(size)
    top, left = corner.unbind(1)
    columns = torch.where(flip[:, None], pixels.flip(0), pixels) + left[:, None]
    rows = (top[:, None] + pixels).to(device, non_blocking=True)
    columns = columns.to(device, non_blocking=True)
    number = torch.arange(len(images), device=device)[:, None, None]
    # Channels come last where an index stands on both sides of them.
    cut = padded[number, :, rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2)


def cut_out(views: Tensor, hole: Tensor, side: int, fill: tuple[float, float, float]) -> Tensor:
    """Cut a square out of every view, in place; at a border only a part of it is inside.

    Args:
        views: (N, 3, S, S).
        hole: (N, 2) int64, row and column in [0, S); the square begins side // 2 before them.
        side: of the square, > 0.
        fill: per channel: the mean of the normalisation, which becomes 0.

    Returns:
        `views`.

    Source: DeVries and Taylor 2017 (arXiv 1708.04552).
    """
    hole = hole.to(views.device, non_blocking=True) - side // 2
    pixels = torch.arange(views.shape[-1], device=views.device)
    row, column = ((pixels >= x[:, None]) & (pixels < x[:, None] + side) for x in hole.unbind(1))
    inside = row[:, None, :, None] & column[:, None, None, :]
    filled = torch.tensor(fill, device=views.device).view(1, 3, 1, 1)
    return views.copy_(torch.where(inside, filled, views))

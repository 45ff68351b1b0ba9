"""The centre of images that would become enormous: only what the crop sees is ever made.

An image of 1 x 20,000 pixels, its short side resized to 256, would have 5 million columns, of which
the crop keeps 224.

Shapes: N images of H x W pixels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

THIN = 16  # times as long as broad: from here on the centre is made by itself


def is_thin(size: tuple[int, int]) -> bool:
    """Whether one side (height, width) is so much longer than the other."""
    return max(size) > THIN * min(size)


def resized_centre(images: Tensor, size: tuple[int, int], crop: int) -> Tensor:
    """The centre of the resized images, without resizing the whole of them.

    Args:
        images: (N, 3, H, W) uint8.
        size: height and width of the whole result, each at least `crop`.
        crop: side of the centre.

    Returns:
        (N, 3, crop, crop) uint8, equal to bilinear resizing with antialiasing but for rounding:
        one level at most, where torch rounds twice.
    """
    starts, weights = zip(
        *(_weights(have, want, crop) for have, want in zip(images.shape[-2:], size, strict=True)),
        strict=True,
    )
    (top, left), (rows, columns) = starts, weights
    seen = images[..., top : top + rows.shape[1], left : left + columns.shape[1]]
    made = rows @ seen.float() @ columns.T
    centre: Tensor = made.round().clamp(0, 255).to(torch.uint8)
    return centre


def _weights(have: int, want: int, crop: int) -> tuple[int, Tensor]:
    """First pixel that the centre sees along one side, and (crop, n) weights of those it sees.

    As torch and Pillow have it: a triangle around the place of each new pixel, as broad as one old
    pixel or, where the side becomes shorter, as one new pixel; cut at the border and summing to 1.
    """
    scale = have / want
    reach = max(1.0, scale)
    first = round((want - crop) / 2)  # as `_centre_crop`
    places = (torch.arange(first, first + crop, dtype=torch.float64) + 0.5) * scale
    start = max(0, math.floor(float(places[0]) - reach))
    stop = min(have, math.ceil(float(places[-1]) + reach))
    pixels = torch.arange(start, stop, dtype=torch.float64) + 0.5
    weights = (1 - (pixels[None] - places[:, None]).abs() / reach).clamp(min=0)
    return start, (weights / weights.sum(dim=1, keepdim=True)).float()

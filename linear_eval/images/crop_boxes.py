"""RandomResizedCrop's boxes: for a whole batch on its device, and for one image as it is read.

Shapes: N images.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

ATTEMPTS = 10
DRAWS = 2 * ATTEMPTS + 2  # uniform numbers that one box consumes
MAX_RATIO = 4 / 3  # width / height; the smallest is its inverse


def random_resized_crop(
    uniforms: Tensor, *, height: Tensor, width: Tensor, min_scale: float
) -> Tensor:
    """Draw boxes with the distribution of torchvision's `RandomResizedCrop.get_params`.

    Ten times an area in [min_scale, 1] of the image and a log-uniform ratio in [3/4, 4/3] are
    drawn; the first box that fits the image is taken, placed uniformly. If none fits, the
    largest centred box with a permitted ratio.

    Args:
        uniforms: (N, DRAWS) in [0, 1).
        height: (N,) whole numbers, of the images.
        width: (N,) likewise.
        min_scale: in (0, 1].

    Returns:
        (N, 4) int64: top, left, height, width, inside the image.
    """
    # float64 and half-to-even rounding, as Python computes it in torchvision
    draws = uniforms.double()
    full_height, full_width = height.double(), width.double()
    area = (min_scale + (1 - min_scale) * draws[:, :ATTEMPTS]) * (full_height * full_width)[:, None]
    ratio = torch.exp(math.log(MAX_RATIO) * (2 * draws[:, ATTEMPTS : 2 * ATTEMPTS] - 1))
    widths, heights = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (widths >= 1) & (heights >= 1)
    fits &= (widths <= full_width[:, None]) & (heights <= full_height[:, None])
    first, found = fits.int().argmax(1, keepdim=True), fits.any(1)
    largest_height = torch.minimum(full_height, (full_width * MAX_RATIO).round())
    largest_width = torch.minimum(full_width, (full_height * MAX_RATIO).round())
    box_height = torch.where(found, heights.gather(1, first)[:, 0], largest_height)
    box_width = torch.where(found, widths.gather(1, first)[:, 0], largest_width)
    top = _place(draws[:, -2], full_height - box_height, found)
    left = _place(draws[:, -1], full_width - box_width, found)
    return torch.stack((top, left, box_height, box_width), dim=1).long()


def _place(draw: Tensor, room: Tensor, found: Tensor) -> Tensor:
    """Uniform over the room + 1 possible offsets; in the middle where no box was found."""
    return torch.where(found, draw * (room + 1), room / 2).floor()


def crop_box(
    height: int, width: int, min_scale: float, draw: random.Random
) -> tuple[int, int, int, int]:
    """Top, left, height and width of one image's box, drawn as those of `random_resized_crop`.

    Args:
        height: of the image.
        width: likewise.
        min_scale: in (0, 1].
        draw: two numbers an attempt, and two for the place of a box that fits, are taken from it.
    """
    for _ in range(ATTEMPTS):
        area = height * width * (min_scale + (1 - min_scale) * draw.random())
        ratio = math.exp(math.log(MAX_RATIO) * (2 * draw.random() - 1))
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(draw.random() * (height - box_height + 1))
            left = int(draw.random() * (width - box_width + 1))
            return top, left, box_height, box_width
    box_width = min(width, round(height * MAX_RATIO))
    box_height = min(height, round(width * MAX_RATIO))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width

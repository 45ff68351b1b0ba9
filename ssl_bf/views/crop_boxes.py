"""RandomResizedCrop's boxes for a whole batch.

Shapes: N images.
"""

import math

import torch
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

"""Colour of a single image on a CPU: what changes nothing is left out.

`colour_ops` has the same operations for whole batches, whose samples differ in what is done to
them. Shapes: (3, H, W) float32 in [0, 1].
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_bf.input.colour_ops import (
    BRIGHTNESS,
    HUE,
    NEUTRAL,
    SATURATION,
    SOLARIZE_THRESHOLD,
    luma,
    shift_hue_,
)


def jitter_(image: Tensor, factors: Sequence[float], order: Sequence[int]) -> Tensor:
    """`colour_jitter` of one image, in place.

    Args:
        image: (3, H, W).
        factors: of brightness, contrast, saturation and hue.
        order: of these four.

    Returns:
        `image`.
    """
    for operation in order:
        factor = factors[operation]
        if factor == NEUTRAL[operation]:
            continue
        if operation == HUE:
            shift_hue_(image, factor)
        elif operation == BRIGHTNESS:
            image.mul_(factor)
        else:
            target = luma(image if operation == SATURATION else image.mean((1, 2)))
            torch.lerp(target, image, factor, out=image)
        if factor > 1:  # nothing else leaves [0, 1]
            image.clamp_(0, 1)
    return image


def solarized(image: Tensor) -> Tensor:
    """`solarize_` of one image of any number of channels, new memory."""
    return torch.where(image >= SOLARIZE_THRESHOLD, 1 - image, image)

"""Colour of a single image on a CPU: what changes nothing is left out.

`colour_ops` has the same operations for whole batches, whose samples differ in what is done to
them. Shapes: (3, H, W) float32 in [0, 255], as bytes are.
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
from ssl_bf.input.image_ops import WHITE


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
        if factor > 1:  # nothing else leaves the range
            image.clamp_(0, WHITE)
    return image


def solarized(image: Tensor) -> Tensor:
    """`solarize_` of one image of any number of channels, new memory."""
    return torch.where(image >= WHITE * SOLARIZE_THRESHOLD, WHITE - image, image)


def normalize_levels_into(
    view: Tensor, image: Tensor, mean: Sequence[float], std: Sequence[float]
) -> None:
    """Write (image / 255 - mean) / std per channel, in one pass over the pixels.

    Args:
        view: (3, H, W) float32, overwritten; any memory format.
        image: (3, H, W).
        mean: of each channel, of images in [0, 1].
        std: of each channel, > 0.
    """
    for out, channel, shift, scale in zip(view, image, mean, std, strict=True):
        torch.add(torch.tensor(-shift / scale), channel, alpha=1 / (WHITE * scale), out=out)

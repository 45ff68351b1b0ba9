"""Colour of a single image on a CPU; operations that would change nothing are skipped.

`colour_ops` has the same operations for whole batches, whose samples differ in what is done to
them. Shapes: (3, H, W) float32 in [0, 255], as bytes are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_bf.views.colour_ops import (
    BRIGHTNESS,
    HUE,
    NEUTRAL,
    SATURATION,
    SOLARIZE_THRESHOLD,
    luma,
    shift_hue_,
)
from ssl_bf.views.image_ops import WHITE


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


@dataclass(frozen=True, eq=False)
class Normalization:
    """(levels / 255 - mean) / std per channel, as one product and one sum.

    Attributes:
        scales: of each channel.
        offsets: likewise, 0-d tensors: making them takes as long as a pass over a plane.
    """

    scales: list[float]
    offsets: list[Tensor]

    @classmethod
    def of(cls, mean: Sequence[float], std: Sequence[float]) -> Normalization:
        """By mean and standard deviation of each channel, of images in [0, 1]."""
        offsets = [torch.tensor(-shift / scale) for shift, scale in zip(mean, std, strict=True)]
        return cls([1 / (WHITE * scale) for scale in std], offsets)

    def write(self, view: Tensor, image: Tensor) -> None:
        """Write what becomes of `image` (3, H, W) to `view`, of any memory format."""
        channels = zip(view, image, self.scales, self.offsets, strict=True)
        for out, channel, scale, offset in channels:
            torch.add(offset, channel, alpha=scale, out=out)

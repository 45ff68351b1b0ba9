"""The views of photographs as one function of tensors whose shapes never change: for compiling.

`Photos.views` takes those rows out of the batch that need something. Here each row goes through
everything, with factors that change nothing where it needs nothing. That is more arithmetic, but
compiled on a GPU all of it happens between two passes over the memory: one before the mean that
contrast asks for, one after it.

Shapes: N images, S x S pixels of a view, R rows that blur has room for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_bf.pixels.packed_images import Images, PackedImages
from ssl_bf.views.batch_ops import crop_and_resize, gaussian_blur
from ssl_bf.views.colour_ops import CONTRAST, HUE, LUMA, SATURATION, SOLARIZE_THRESHOLD
from ssl_bf.views.photo_views import Photos

NOTHING = (1.0, 0.0, 0.0)  # a turn that changes no pixel
BEFORE, AFTER = slice(0, 3), slice(1, 4)  # where of four turns contrast may lie behind or ahead
NO_BLUR = 0.01  # standard deviation in pixels: all weight on the pixel itself, exactly

Channels = tuple[Tensor, Tensor, Tensor]  # red, green, blue; (N, S, S) each


class UniformPhotos(NamedTuple):
    """What is done to N photographs after the crop, for each of them every number.

    Attributes:
        turns: (7, 3, N) factor of the image, factor of its luma, shift of hue; three turns that
            may come before contrast, three that may come after it, and gray.
        contrast: (N,) its factor.
        rows: (R,) int64; all that are blurred, filled up with others.
        sigma: (R,) in pixels, see `gaussian_blur`.
        solarize: (N,) bool.
    """

    turns: Tensor
    contrast: Tensor
    rows: Tensor
    sigma: Tensor
    solarize: Tensor

    @classmethod
    def of(cls, photos: Photos) -> UniformPhotos:
        """Those of a batch, whose `blur_fits`; on the CPU."""
        order = photos.order
        factor = photos.factors.gather(1, order)
        of_image = torch.where((order == HUE) | (order == CONTRAST), 1.0, factor)
        of_luma = torch.where(order == SATURATION, 1 - factor, 0.0)
        shift = torch.where(order == HUE, factor, 0.0)
        turns = torch.stack((of_image, of_luma, shift))  # (3, N, 4)
        nothing = torch.tensor(NOTHING)[:, None, None]
        turn, contrast_turn = torch.arange(4), (order == CONTRAST).int().argmax(1, keepdim=True)
        before = torch.where(turn < contrast_turn, turns, nothing)[:, :, BEFORE]
        after = torch.where(turn > contrast_turn, turns, nothing)[:, :, AFTER]
        gray = photos.gray.float()
        to_gray = torch.stack((1 - gray, gray, torch.zeros_like(gray)))[:, :, None]
        # stable: the rows beside the blurred ones are the first, whatever the machine sorts with
        rows = (photos.sigma == 0).int().argsort(stable=True)[: photos.blur_room]
        return cls(
            turns=torch.cat((before, after, to_gray), dim=2).permute(2, 0, 1).contiguous(),
            contrast=photos.factors[:, CONTRAST],
            rows=rows,
            sigma=photos.sigma[rows].clamp(min=NO_BLUR),
            solarize=photos.solarize,
        )

    def to(self, device: torch.device) -> UniformPhotos:
        """The same on a device, without a wait."""
        return UniformPhotos(*(column.to(device, non_blocking=True) for column in self))


def write_compiled(
    views: Tensor,
    images: Images | PackedImages,
    photos: Photos,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """Write what `Photos.views` gives but for rounding, normalised.

    Args:
        views: (N, 3, S, S) float32, overwritten; any memory format.
        images: of N photographs, on the same device.
        photos: whose `blur_fits`.
        mean: subtracted per channel.
        std: divided by, per channel.
    """
    crop, finish = _compiled()
    pixels = photos.cropped(images, views.shape[-1], resize=crop)
    finish(views, pixels, UniformPhotos.of(photos).to(views.device), tuple(mean), tuple(std))


@functools.cache
def _compiled() -> tuple[Callable[..., Tensor], Callable[..., None]]:
    return torch.compile(crop_and_resize, fullgraph=True), torch.compile(finish, fullgraph=True)


def finish(
    views: Tensor,
    pixels: Tensor,
    photos: UniformPhotos,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """Colours, blur, solarization and normalisation of crops `pixels` (N, 3, S, S) in [0, 1]."""
    turns = photos.turns[..., None, None]
    channels = _each(pixels)
    for number in range(3):
        channels = _turn(channels, turns[number])
    channels = _contrast(channels, photos.contrast[:, None, None])
    for number in range(3, 7):
        channels = _turn(channels, turns[number])
    pixels = torch.stack(channels, dim=1)
    if len(photos.rows):
        blurred = gaussian_blur(pixels.index_select(0, photos.rows), photos.sigma)
        pixels = pixels.index_copy(0, photos.rows, blurred)
    is_inverted = photos.solarize[:, None, None, None] & (pixels >= SOLARIZE_THRESHOLD)
    pixels = torch.where(is_inverted, 1 - pixels, pixels)
    normalised = [
        channel.mul(1 / scale).sub(shift / scale)
        for channel, shift, scale in zip(_each(pixels), mean, std, strict=True)
    ]
    views.copy_(torch.stack(normalised, dim=1))


def _turn(channels: Channels, factors: Tensor) -> Channels:
    """One operation of each sample; `factors` (3, N, 1, 1), see `UniformPhotos.turns`."""
    of_image, of_luma, shift = factors
    channels = _shift_hue(channels, shift)
    pulled_to = of_luma * _luma(channels)
    red, green, blue = ((of_image * x + pulled_to).clamp(0, 1) for x in channels)
    return red, green, blue


def _contrast(channels: Channels, factor: Tensor) -> Channels:
    pulled_to = (1 - factor) * _luma(channels).mean((1, 2), keepdim=True)
    red, green, blue = ((factor * x + pulled_to).clamp(0, 1) for x in channels)
    return red, green, blue


def _shift_hue(channels: Channels, shift: Tensor) -> Channels:
    """`shift_hue_`, exact where the shift is 0.

    On the circle a channel rises or falls by 6 chroma per turn between the smallest and the largest
    channel, where it stays for a third of the circle.
    """
    red, green, blue = channels
    high, low = torch.maximum(red, green), torch.minimum(red, green)
    largest, smallest = torch.maximum(high, blue), torch.minimum(low, blue)
    middle = torch.maximum(low, torch.minimum(high, blue))
    change = 6 * shift * (largest - smallest)

    def shifted(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return torch.clamp(2 * x - middle - torch.sign(y - z) * change, smallest, largest)

    return shifted(red, green, blue), shifted(green, blue, red), shifted(blue, red, green)


def _luma(channels: Channels) -> Tensor:
    red, green, blue = channels
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def _each(views: Tensor) -> Channels:
    red, green, blue = views.unbind(1)
    return red, green, blue

"""Colour of whole batches, one parameter per sample; float32 images in [0, 1].

Shapes: N images, (N, 3, H, W). Brightness, contrast, saturation, grayscale, inversion and channel
permutation are affine maps of a pixel's three channels, so each is a 3 x 3 matrix and an offset
per sample and one batched product, whatever the mixture inside the batch. Functions that touch
only some rows get row numbers from the caller, who drew them on the CPU: no wait for the device.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601-2 as torchvision rounds it
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
SOLARIZE_THRESHOLD = 128 / 255  # PIL inverts values >= 128 of 255


def colour_affine(images: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """Apply matrix @ pixel + offset to every pixel, clamped to [0, 1].

    Args:
        images: (N, 3, H, W).
        matrix: (N, 3, 3).
        offset: (N, 3).

    Returns:
        (N, 3, H, W), new memory.
    """
    matrix, offset = matrix.to(images.device), offset.to(images.device)
    pixels = images.reshape(len(images), 3, -1)
    # not baddbmm, which would write the broadcast offsets out first
    return torch.bmm(matrix, pixels).add_(offset[:, :, None]).clamp_(0, 1).view(images.shape)


def colour_jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue, each sample in an order of its own.

    Every operation equals torchvision's `adjust_*` on a float tensor, clamping included.

    Args:
        images: (N, 3, H, W).
        factors: (N, 4) on the CPU: brightness, contrast and saturation factors >= 0, 1 changes
            nothing; hue as a part of the colour circle in [-0.5, 0.5], 0 changes nothing.
        order: (N, 4) int64 on the CPU; row i is a permutation of the columns of `factors`,
            order[i, 0] is applied first.

    Returns:
        (N, 3, H, W), new memory.

    The three affine operations run in three rounds over the whole batch, a round mixing all of
    them. Hue, the expensive one, runs once per sample, on the rows whose turn it is: gathering
    them costs a quarter of what computing hue four times behind a mask would.
    """
    hue_turn = (order == HUE).int().argmax(1)
    luma = torch.tensor(LUMA, device=images.device)
    images = images.clone()
    _shift_hue_of_rows_(images, factors, hue_turn == 0)
    for turn, (matrix, mean_weight) in enumerate(_affine_rounds(factors, order), start=1):
        # The mean that contrast pulls towards belongs to the image as it is now.
        mean = images.mean((2, 3)) @ luma
        offset = (mean_weight.to(images.device) * mean)[:, None].expand(-1, 3)
        images = colour_affine(images, matrix, offset)
        _shift_hue_of_rows_(images, factors, hue_turn == turn)
    return images


def _affine_rounds(factors: Tensor, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The three affine operations of each sample in its order, hue left out.

    Returns:
        Three times (N, 3, 3) matrices and (N,) weights of the image's mean luma.
    """
    operation = order[order != HUE].view(-1, 3)
    factor = factors.gather(1, operation)
    rest = 1 - factor
    luma_weight = rest * (operation == SATURATION)
    matrix = factor[..., None, None] * torch.eye(3)
    matrix += luma_weight[..., None, None] * torch.tensor(LUMA)
    mean_weight = rest * (operation == CONTRAST)
    return zip(matrix.unbind(1), mean_weight.unbind(1), strict=True)


def _shift_hue_of_rows_(images: Tensor, factors: Tensor, selected: Tensor) -> None:
    """Turn the hue of the selected rows in place; rows with shift 0 are left as they are."""
    rows = (selected & (factors[:, HUE] != 0)).nonzero()[:, 0]
    if len(rows) == 0:
        return
    shift = factors[rows, HUE].to(images.device)
    rows = rows.to(images.device)
    images.index_copy_(0, rows, shift_hue(images.index_select(0, rows), shift))


def shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the colour circle of HSV; value and saturation stay.

    Args:
        images: (N, 3, H, W).
        shift: (N,) parts of a full turn, in [-0.5, 0.5], on the device of `images`.

    Returns:
        (N, 3, H, W), new memory.

    Source: torchvision's `adjust_hue`. There the six sectors of HSV are told apart by comparisons
    and a table. The same function without them: with channels scaled to reach from 0 to 1, the
    hue in sixths of a turn is h = +-(1 + g + b - r), positive where g > b; a channel whose hue
    lies d sixths away becomes max - chroma * clamp(d - 1, 0, 1).
    """
    red, green, blue = images.unbind(1)
    largest = torch.maximum(torch.maximum(red, green), blue)
    smallest = torch.minimum(torch.minimum(red, green), blue)
    chroma = largest - smallest
    # Gray pixels have no hue; any will do, since it is multiplied by their chroma of zero.
    per_chroma = chroma.clamp(min=1e-20).reciprocal_()
    hue = (green + blue).sub_(red).sub_(smallest).mul_(per_chroma).add_(1)
    hue = torch.copysign(hue, green - blue).add_(6 * shift[:, None, None])
    hue.sub_((hue / 6).round_().mul_(6))  # back into [-3, 3]
    channel = torch.tensor([0.0, 2.0, -2.0], device=images.device)[:, None, None]
    # At most 5 from any channel, so the distance on the circle is d = 3 - fold.
    fold = (hue[:, None] - channel).abs_().sub_(3).abs_().clamp_(1, 2)
    floor = largest.sub_(chroma, alpha=2)[:, None]
    return torch.addcmul(floor, fold, chroma[:, None], out=fold).clamp_(0, 1)


def grayscale_(images: Tensor, rows: Tensor) -> Tensor:
    """Replace the channels of some rows by their luma, in place.

    Args:
        images: (N, 3, H, W).
        rows: (R,) int64.

    Returns:
        `images`.
    """
    rows = rows.to(images.device)
    red, green, blue = images.index_select(0, rows).unbind(1)
    luma = red.mul(LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])
    return images.index_copy_(0, rows, luma[:, None].expand(-1, 3, -1, -1))


def solarize_(images: Tensor, rows: Tensor) -> Tensor:
    """Invert the bright pixels (>= 128 / 255) of some rows, in place.

    Args:
        images: (N, 3, H, W).
        rows: (R,) int64.

    Returns:
        `images`.
    """
    rows = rows.to(images.device)
    chosen = images.index_select(0, rows)
    chosen = torch.where(chosen >= SOLARIZE_THRESHOLD, 1 - chosen, chosen)
    return images.index_copy_(0, rows, chosen)


def texture_colours(uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Random colour maps that leave a pattern visible but say nothing about its colours.

    In this order: every channel gets a contrast of 0.6 to 1.4 about the middle and a shift of at
    most 0.2; the channels are permuted; with probability 0.3 the first is shown in gray (their
    mean could cancel the pattern, whose two colours differ by either sign); with probability 0.5
    the image is inverted.

    Args:
        uniforms: (N, 11) in [0, 1).

    Returns:
        (N, 3, 3) matrices and (N, 3) offsets for `colour_affine`.
    """
    gain, shift = 0.6 + 0.8 * uniforms[:, :3], 0.4 * uniforms[:, 3:6] - 0.2
    permutation = uniforms[:, 6:9].argsort(1)
    matrix = torch.diag_embed(gain).gather(1, permutation[:, :, None].expand(-1, 3, 3))
    offset = (0.5 - 0.5 * gain + shift).gather(1, permutation)
    gray, inverted = uniforms[:, 9:10] < 0.3, uniforms[:, 10:11] < 0.5
    matrix = torch.where(gray[:, :, None], matrix[:, :1], matrix)
    offset = torch.where(gray, offset[:, :1], offset)
    matrix = torch.where(inverted[:, :, None], -matrix, matrix)
    return matrix, torch.where(inverted, 1 - offset, offset)

"""Colour of whole batches, one parameter per sample; float32 images in [0, 1].

Shapes: N images, (N, 3, H, W). Brightness, contrast, saturation, grayscale, inversion and channel
permutation are affine maps of a pixel's three channels, so each is a 3 x 3 matrix and an offset
per sample and one batched product, whatever the mixture inside the batch. Functions that touch
only some rows get row numbers from the caller, who drew them on the CPU: no wait for the device.
"""

import torch
from torch import Tensor

from ssl_bf.pixels.rows import put_rows_, take_rows

LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601-2 as torchvision rounds it
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
NEUTRAL = (1.0, 1.0, 1.0, 0.0)  # factors that change nothing
HUE_NEVER = 4  # in place of a turn
# PIL inverts values >= 128 of 255; rounding must not hide one that is exactly 128.
SOLARIZE_THRESHOLD = 128 / 255 - 1e-6


def colour_affine(images: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """Apply matrix @ pixel + offset to every pixel, clamped to [0, 1].

    Args:
        images: (N, 3, H, W).
        matrix: (N, 3, 3).
        offset: (N, 3).

    Returns:
        (N, 3, H, W), new memory.
    """
    matrix, offset = (
        matrix.to(images.device, non_blocking=True),
        offset.to(images.device, non_blocking=True),
    )
    pixels = images.reshape(len(images), 3, -1)
    # not baddbmm, which would write the broadcast offsets out first
    return torch.bmm(matrix, pixels).add_(offset[:, :, None]).clamp_(0, 1).view(images.shape)


def colour_jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue, each sample in an order of its own.

    Every operation equals torchvision's `adjust_*` on a float tensor, clamping included.

    Args:
        images: (N, 3, H, W).
        factors: (N, 4) on the CPU: brightness, contrast and saturation factors >= 0, 1 changes
            nothing; hue as a part of the colour circle in [-1/6, 1/6], 0 changes nothing.
        order: (N, 4) int64 on the CPU; row i is a permutation of the columns of `factors`,
            order[i, 0] is applied first.

    Returns:
        (N, 3, H, W), new memory, laid out channel by channel.

    The three affine operations run in three rounds over the whole batch, a round mixing all of
    them. Hue, the expensive one, runs once per sample: meanwhile the samples are sorted by its
    turn, so that those whose turn it is lie side by side. Samples that nothing changes lie last.
    """
    assert bool((factors[:, HUE].abs() <= 1 / 6).all()), "hue beyond a sixth of the circle"
    hue_turn = (order == HUE).int().argmax(1)
    unchanged = (factors == torch.tensor(NEUTRAL)).all(1)
    hue_turn[factors[:, HUE] == 0] = HUE_NEVER
    hue_turn[unchanged] = HUE_NEVER + 1
    ends = torch.bincount(hue_turn, minlength=HUE_NEVER + 2).cumsum(0).tolist()
    rows = hue_turn.argsort()
    planes = images.transpose(0, 1).index_select(1, rows.to(images.device, non_blocking=True))
    shift = factors[rows, HUE, None, None].to(images.device, non_blocking=True)
    changed = ends[HUE_NEVER]
    rounds = _affine_rounds(factors[rows[:changed]], order[rows[:changed]])
    for turn, start, end in zip(range(4), [0, *ends], ends, strict=False):
        if start < end:
            shift_hue_(planes[:, start:end], shift[start:end])
        if turn < len(rounds):
            _affine_round_(planes[:, :changed], rounds[turn].to(images.device, non_blocking=True))
    return planes.index_select(1, rows.argsort().to(images.device, non_blocking=True)).transpose(
        0, 1
    )


def _affine_rounds(factors: Tensor, order: Tensor) -> Tensor:
    """The three affine operations of each sample in its order, hue left out.

    Returns:
        (3, 3, N): of each round the factors of the image, of its luma, and of its mean luma.
    """
    operation = order[order != HUE].view(-1, 3)
    factor = factors.gather(1, operation)
    of_luma = (1 - factor) * (operation == SATURATION)
    of_mean = (1 - factor) * (operation == CONTRAST)
    return torch.stack((factor, of_luma, of_mean)).permute(2, 0, 1)


def _affine_round_(planes: Tensor, factors: Tensor) -> None:
    """One operation of every sample, in place on (3, N, H, W); `factors` (3, N)."""
    of_image, of_luma, of_mean = factors[:, :, None, None]
    pulled_to = luma(planes)
    # The mean that contrast pulls towards belongs to the image as it is now.
    offset = pulled_to.mean((1, 2), keepdim=True).mul_(of_mean)
    pulled_to.mul_(of_luma).add_(offset)
    torch.addcmul(pulled_to, planes, of_image, out=planes).clamp_(0, 1)


def luma(planes: Tensor) -> Tensor:
    """(3, ...) -> (...), new memory."""
    red, green, blue = planes
    weighted: Tensor = red.mul(LUMA[0])
    return weighted.add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def shift_hue_(planes: Tensor, shift: Tensor | float) -> Tensor:
    """Turn the colour circle of HSV, in place; value and saturation stay.

    Args:
        planes: (3, ...) red, green and blue.
        shift: parts of a full turn, in [-1/6, 1/6]; a tensor is broadcast over a channel.

    Returns:
        `planes`.

    Source: equal to torchvision's `adjust_hue`, without its way to HSV and back. A channel x, whose
    neighbour on the circle is y (the one before it in red, green, blue for a turn forward, else the
    one after it) and z the third, becomes, with d the turn in sixths of the circle,

        clamp(x - z - (1 - 2 d) y + (1 - d) (largest + smallest), smallest, largest).

    Where y is smallest, x falls with x - z + largest - d chroma; where it is largest, x rises with
    x - z + smallest + d chroma; where it is in between, x stays largest or smallest.
    """
    red, green, blue = planes.unbind()
    largest, smallest = planes.amax(0), planes.amin(0)
    turn = 6 * (shift.abs() if isinstance(shift, Tensor) else abs(shift))
    rest = torch.add(largest, smallest).mul_(1 - turn).sub_(red).sub_(green).sub_(blue)
    turned = torch.empty_like(planes)
    befores, afters = (blue, red, green), (green, blue, red)
    circle = zip(turned.unbind(), planes.unbind(), befores, afters, strict=True)
    if isinstance(shift, Tensor):
        forward, backward = (6 * shift).clamp(min=0), (-6 * shift).clamp(min=0)
        for out, x, before, after in circle:
            torch.addcmul(x, before, forward, out=out).addcmul_(after, backward)
    else:
        for out, x, before, after in circle:
            torch.add(x, before if shift > 0 else after, alpha=6 * abs(shift), out=out)
    # x - z - (1 - 2 d) y is 2 (x + d y) less the sum of all three
    torch.add(rest, turned, alpha=2, out=turned)
    return torch.clamp(turned, smallest, largest, out=planes)


def grayscale_(images: Tensor, rows: Tensor) -> Tensor:
    """Replace the channels of some rows by their luma, in place.

    Args:
        images: (N, 3, H, W).
        rows: (R,) int64.

    Returns:
        `images`.
    """
    if len(rows) == 0:
        return images
    gray = luma(take_rows(images, rows).transpose(0, 1))
    return put_rows_(images, rows, gray[:, None].expand(-1, 3, -1, -1))


def solarize_(images: Tensor, rows: Tensor) -> Tensor:
    """Invert the bright pixels (>= 128 / 255) of some rows, in place.

    Args:
        images: (N, 3, H, W).
        rows: (R,) int64.

    Returns:
        `images`.
    """
    if len(rows) == 0:
        return images
    chosen = take_rows(images, rows)
    chosen = torch.where(chosen >= SOLARIZE_THRESHOLD, 1 - chosen, chosen)
    return put_rows_(images, rows, chosen)


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

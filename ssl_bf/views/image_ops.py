"""What a CPU does faster than the dense products of `batch_ops`, whose operations these are.

Products are cheap on a GPU. Here the work grows with the pixels instead of their square: large
images are resized and blurred one after the other, at some twenty calls each; small ones that
become no smaller, all at once.

Shapes: N images, (N, 3, S, S) laid out channel by channel.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST_DENSE = 64  # pixels; from here on a CPU is slower with dense products
BLOCK = 16  # outputs of one product: fewer waste its overhead, more multiply zeros
RADIUS = 11  # of the kernel with 23 taps
WHITE = 255.0


def prefer_one_at_a_time(device: torch.device, size: int) -> bool:
    """Whether images of this side are better worked on one at a time."""
    return device.type == "cpu" and size > LARGEST_DENSE


def crop_and_enlarge(images: Tensor, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
    """`crop_and_resize` to a view that no box is larger than: plain bilinear.

    Two thirds of the time of the products at 32 px. Positions are rounded to a few millionths of a
    pixel, which is how much values may differ.

    Args:
        images: (N, 3, H, W) uint8 or float32 on the CPU.
        boxes: (N, 4).
        flip: (N,) bool.
        size: S, at least H and W.

    Returns:
        (N, 3, S, S) float32 in [0, 1].
    """
    count, _, height, width = images.shape
    top, left, box_height, box_width = boxes.to(torch.float32).unbind(1)
    outputs = torch.arange(size, dtype=torch.float32)
    mirrored = torch.where(flip[:, None], outputs.flip(0), outputs)
    grid = torch.empty((2, count, size, size))
    grid[0] = _positions(mirrored, left, box_width, length=width)[:, None]
    grid[1] = _positions(outputs, top, box_height, length=height)[:, :, None]
    pixels = images.contiguous().to(torch.float32)  # faster than both at once
    if images.dtype == torch.uint8:
        pixels.mul_(1 / WHITE)
    # No position lies outside of the image; this way of padding is the cheapest.
    grid = grid.permute(1, 2, 3, 0)
    return F.grid_sample(pixels, grid, padding_mode="zeros", align_corners=False)


def _positions(outputs: Tensor, start: Tensor, extent: Tensor, *, length: int) -> Tensor:
    """Where output pixels, (S,) or (N, S), lie in images whose borders are -1 and 1; (N, S)."""
    start, extent = start[:, None], extent[:, None]
    in_box = (extent / outputs.shape[-1] * (outputs + 0.5) - 0.5).clamp_(min=0)
    return (torch.minimum(in_box, extent - 1) + start + 0.5) * (2 / length) - 1


def crop_and_resize_each(
    images: Sequence[Tensor], boxes: Tensor, flip: Tensor, size: int
) -> Tensor:
    """`crop_and_resize` for images of any sizes, one after the other.

    Args:
        images: N tensors (3, H_i, W_i), uint8 or float32, on one device.
        boxes: (N, 4) whole numbers, on the CPU: they become slices.
        flip: (N,) bool.
        size: S.

    Returns:
        (N, 3, S, S) float32 in [0, 1], laid out channel by channel.
    """
    planes = images[0].new_empty((3, len(images), size, size), dtype=torch.float32)
    for image, box, mirrored, view in zip(
        images, boxes.tolist(), flip.tolist(), planes.unbind(1), strict=True
    ):
        view.copy_(cropped(image, box, size, mirrored=mirrored))
    if images[0].dtype == torch.uint8:
        planes.div_(WHITE)
    return planes.transpose(0, 1)


def cropped(image: Tensor, box: Sequence[int], size: int, *, mirrored: bool) -> Tensor:
    """`crop_and_resize` of one image.

    Args:
        image: (3, H, W), uint8 or float32.
        box: top, left, height and width.
        size: S.
        mirrored: left to right.

    Returns:
        (3, S, S) float32, new memory, in the range of `image`: bytes are not divided by 255.

    On the CPU the bytes of large images become bytes, by the kernel and with the rounding of
    torchvision (and of PIL), five times as fast as float32. Those of small ones do not, so that a
    view is the same whether or not the images of its batch share a size.
    """
    top, left, height, width = box
    crop = image[None, :, top : top + height, left : left + width]
    if image.dtype == torch.uint8 and prefer_one_at_a_time(image.device, max(image.shape[-2:])):
        # pixel by pixel, which the kernel is fast for; it would convert a part of an image slowly
        crop = crop.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    else:
        crop = crop.to(torch.float32)
    resized = F.interpolate(crop, (size, size), mode="bilinear", antialias=True)[0]
    planes = resized.contiguous()  # while they are bytes: it and the flip are cheap
    return (planes.flip(-1) if mirrored else planes).to(torch.float32)


def blurred(image: Tensor, sigma: float) -> Tensor:
    """`gaussian_blur_` of one image, with a kernel as wide as it needs.

    Args:
        image: (C, H, W) float32 with H, W >= 2, on the CPU.
        sigma: standard deviation in pixels, > 0 and at most 2.

    Returns:
        (C, H, W), as products of every block of pixels and its neighbours with a band.
    """
    channels, height, width = image.shape
    # What lies further away than 5.5 standard deviations weighs less than 3e-7.
    radius = min(RADIUS, math.ceil(5.5 * sigma))
    down, across = min(radius, height - 1), min(radius, width - 1)
    down_band = _gaussian_band(sigma, down)
    across_band = down_band if across == down else _gaussian_band(sigma, across)
    padded = F.pad(image, (across, across, down, down), mode="reflect")
    # The last block may reach beyond the image; zeros there never meet a pixel that is kept.
    spare = -height % BLOCK, -width % BLOCK
    if any(spare):
        padded = F.pad(padded, (0, spare[1], 0, spare[0]))
    tall, wide = height + spare[0], width + spare[1]
    band = down_band.expand(tall // BLOCK, -1, -1)
    middle = torch.empty((channels, *band.shape[:2], padded.shape[2]))
    for plane, out in zip(padded, middle, strict=True):
        torch.bmm(band, plane.unfold(0, band.shape[2], BLOCK).transpose(1, 2), out=out)
    band = across_band.expand(wide // BLOCK, -1, -1)
    blocks = middle.view(channels * tall, -1).unfold(1, band.shape[2], BLOCK).transpose(0, 1)
    result = torch.bmm(blocks, band.transpose(1, 2))  # (blocks, C * tall, BLOCK)
    return result.transpose(0, 1).reshape(channels, tall, wide)[:, :height, :width]


def _gaussian_band(sigma: float, radius: int) -> Tensor:
    """Matrix (BLOCK, BLOCK + 2 radius) that blurs a block of pixels, given its neighbours."""
    half = [math.exp(-0.5 * (distance / sigma) ** 2) for distance in range(radius + 1)]
    # Weights too small to matter would make the products denormal, which are 10 times slower.
    half = [weight if weight > 1e-12 else 0.0 for weight in half]
    total = 2 * sum(half) - half[0]
    kernel = [weight / total for weight in (*half[:0:-1], *half)]
    # Rows that are one longer than wanted, laid out anew, begin one place later each.
    row = torch.tensor(kernel + [0.0] * BLOCK)
    width = BLOCK + 2 * radius
    return row.expand(BLOCK, -1).reshape(-1)[: BLOCK * width].view(BLOCK, width)

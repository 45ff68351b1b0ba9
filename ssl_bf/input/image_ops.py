"""Resizing and blurring one image after the other: what a CPU does fastest on large images.

`batch_ops` has the same operations as dense products over the whole batch: cheap where images are
small, and on a GPU. Here the work grows with the pixels instead of their square, and every image
costs some twenty calls.

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


def prefer_one_at_a_time(device: torch.device, size: int) -> bool:
    """Whether images of this side are better worked on one at a time."""
    return device.type == "cpu" and size > LARGEST_DENSE


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

    On the CPU the bytes of large images become bytes, by the kernel and with the rounding of
    torchvision (and of PIL), five times as fast as float32. Those of small ones do not, so that a
    view is the same whether or not the images of its batch share a size.
    """
    planes = images[0].new_empty((3, len(images), size, size), dtype=torch.float32)
    is_bytes = images[0].dtype == torch.uint8
    for image, box, mirrored, view in zip(
        images, boxes.tolist(), flip.tolist(), planes.unbind(1), strict=True
    ):
        top, left, height, width = box
        crop = image[None, :, top : top + height, left : left + width]
        if not (is_bytes and prefer_one_at_a_time(image.device, max(image.shape[-2:]))):
            crop = crop.to(torch.float32)
        elif image.stride(0) != 1:
            crop = crop.contiguous(memory_format=torch.channels_last)
        resized = F.interpolate(crop, (size, size), mode="bilinear", antialias=True)[0]
        view.copy_(resized.flip(-1) if mirrored else resized)
    if is_bytes:
        planes.div_(255)
    return planes.transpose(0, 1)


def gaussian_blur_each_(images: Tensor, rows: Tensor, sigma: Tensor) -> Tensor:
    """`gaussian_blur_` one row after the other, with a kernel as wide as each needs.

    Args:
        images: (N, 3, H, W) float32 with H, W >= 2.
        rows: (R,) int64, on the CPU.
        sigma: (R,) standard deviations in pixels, on the CPU.

    Returns:
        `images`.
    """
    for row, width in zip(rows.tolist(), sigma.tolist(), strict=True):
        # What lies further away than 5.5 standard deviations weighs less than 3e-7.
        radius = min(RADIUS, math.ceil(5.5 * width))
        images[row] = _blur(images[row], width, radius)
    return images


def _blur(image: Tensor, sigma: float, radius: int) -> Tensor:
    """(3, H, W) blurred, as products of every block of pixels and its neighbours with a band."""
    height, width = image.shape[1:]
    down, across = min(radius, height - 1), min(radius, width - 1)
    # The last block may reach beyond the image; zeros there never meet a pixel that is kept.
    spare = -height % BLOCK, -width % BLOCK
    padded = F.pad(image, (across, across, down, down), mode="reflect")
    padded = F.pad(padded, (0, spare[1], 0, spare[0]))
    tall, wide = height + spare[0], width + spare[1]
    band = _gaussian_band(sigma, down)
    band = band.expand(tall // BLOCK, -1, -1)
    middle = torch.empty((3, *band.shape[:2], padded.shape[2]))
    for plane, out in zip(padded, middle, strict=True):
        torch.bmm(band, plane.unfold(0, band.shape[2], BLOCK).transpose(1, 2), out=out)
    band = _gaussian_band(sigma, across)
    band = band.expand(wide // BLOCK, -1, -1)
    blocks = middle.view(3 * tall, -1).unfold(1, band.shape[2], BLOCK).transpose(0, 1)
    blurred = torch.bmm(blocks, band.transpose(1, 2))  # (blocks, 3 * tall, BLOCK)
    return blurred.transpose(0, 1).reshape(3, tall, wide)[:, :height, :width]


def _gaussian_band(sigma: float, radius: int) -> Tensor:
    """Matrix (BLOCK, BLOCK + 2 radius) that blurs a block of pixels, given its neighbours."""
    distance = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (distance / sigma) ** 2)
    # Weights too small to matter would make the products denormal, which are 10 times slower.
    kernel *= kernel > 1e-12
    kernel /= kernel.sum()
    moved = F.pad(kernel, (BLOCK - 1, BLOCK - 1)).unfold(0, BLOCK + 2 * radius, 1)
    return moved.flip(0)  # row i holds the kernel i places further to the right

"""Geometry of whole batches: crop, resize, flip, rotate, blur, normalise, one parameter per sample.

Shapes: N images, 3 channels, H x W pixels in, S x S out. Resizing and blurring are separable
linear maps, so both are written as two matrices per sample and applied as two batched products.
Parameters may lie on any device: they are small and follow the images. Nothing here waits for the
device. Products run in the matmul precision of the process: leave it at float32.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_bf.pixels.rows import put_rows_, take_rows

Resize = Callable[[Tensor, Tensor, Tensor, int], Tensor]  # `crop_and_resize`


def crop_and_resize(images: Tensor, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
    """Cut a box from every image, resize it with an antialiased triangle filter, maybe mirror it.

    The filter ends at the border of the box, as if the crop had been cut out before resizing:
    equal to torchvision's `resized_crop(antialias=True)` followed by `hflip`, up to rounding.

    Args:
        images: (N, 3, H, W), uint8 in [0, 255] or float32 in [0, 1].
        boxes: (N, 4) whole numbers: top, left, height, width, inside the image.
        flip: (N,) bool; mirrored left to right where True.
        size: S.

    Returns:
        (N, 3, S, S) float32 in [0, 1].
    """
    height, width = images.shape[-2:]
    top, left, box_height, box_width = boxes.to(
        images.device, torch.float32, non_blocking=True
    ).unbind(1)
    outputs = torch.arange(size, device=images.device, dtype=torch.float32)
    mirrored = torch.where(
        flip.to(images.device, non_blocking=True)[:, None], outputs.flip(0), outputs
    )
    columns = _triangle_filter(mirrored, left, box_width, length=width, size=size)
    rows = _triangle_filter(outputs, top, box_height, length=height, size=size)
    if images.dtype == torch.uint8:
        rows.div_(255)  # the small matrices, which saves a pass over the pixels
    # in one pass, also from bytes whose channels lie together
    pixels = images.to(torch.float32, memory_format=torch.contiguous_format)
    return _apply_separable(pixels, rows, columns)


def _triangle_filter(
    outputs: Tensor, start: Tensor, extent: Tensor, *, length: int, size: int
) -> Tensor:
    """Weights (N, S, length) that resize pixels [start, start + extent) of `length` to `size`.

    `outputs`, (S,) or (N, S), says which output pixel a row is for. Rows sum to one. When
    shrinking, the triangle is as wide as two output pixels, which is what makes it antialiased;
    when enlarging, as wide as two input pixels, which is plain bilinear.
    """
    start, extent = start[:, None, None], extent[:, None, None]
    scale = extent / size  # input pixels per output pixel
    pixels = torch.arange(length, device=start.device) - start  # (N, 1, length), 0 at the border
    centres = scale * (outputs[..., None] + 0.5) - 0.5  # (N, S, 1)
    weights = (pixels - centres).abs_()
    torch.sub(scale.clamp(min=1), weights, out=weights).clamp_(min=0)
    weights.mul_((pixels >= 0) & (pixels < extent))
    return weights.div_(weights.sum(2, keepdim=True))


def _apply_separable(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Product rows @ image @ columns^T for every channel: (N, 3, H, W) -> (N, 3, S, T).

    Columns first: the cheaper order where images are wider than high, equal for squares. The
    result is laid out channel by channel, which spares a copy of `rows` for each of them.
    """
    count, channels, height, width = images.shape
    flat = images.reshape(count, channels * height, width)
    narrow = torch.bmm(flat, columns.transpose(1, 2)).unflatten(1, (channels, height))
    planes = images.new_empty((channels, count, rows.shape[1], columns.shape[1]))
    for channel, plane in enumerate(planes):
        torch.bmm(rows, narrow[:, channel], out=plane)
    return planes.transpose(0, 1)


def rotate_and_crop(
    images: Tensor, *, angle: Tensor, side: Tensor, centre: Tensor, flip: Tensor, size: int
) -> Tensor:
    """Sample a rotated square window from every image, bilinearly, reflecting at the borders.

    Args:
        images: (N, 3, H, H) float32; square, else a rotation would shear.
        angle: (N,) radians; the content turns clockwise.
        side: (N,) side of the window relative to the image's, in (0, 1].
        centre: (N, 2) x, y of the window's centre; -1 and 1 are the borders of the image.
        flip: (N,) bool; the window is mirrored left to right where True.
        size: S; not antialiased, so at least `side` * H.

    Returns:
        (N, 3, S, S) float32.
    """
    cos, sin = side * torch.cos(angle), side * torch.sin(angle)
    mirror = 1 - 2 * flip.to(side.dtype)
    first_row = torch.stack((mirror * cos, sin, centre[:, 0]), dim=1)
    second_row = torch.stack((-mirror * sin, cos, centre[:, 1]), dim=1)
    window = torch.stack((first_row, second_row), dim=1).to(
        images.device, non_blocking=True
    )  # (N, 2, 3)
    grid = F.affine_grid(window, [len(images), 3, size, size], align_corners=False)
    return F.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def gaussian_blur_(images: Tensor, rows: Tensor, sigma: Tensor) -> Tensor:
    """Blur some rows of a batch in place.

    Args:
        images: (N, 3, S, S) float32.
        rows: (R,) int64 rows to blur; all others keep their values.
        sigma: (R,), see `gaussian_blur`.

    Returns:
        `images`.
    """
    if len(rows) == 0:
        return images
    return put_rows_(images, rows, gaussian_blur(take_rows(images, rows), sigma))


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur every image, each with its own width.

    Args:
        images: (N, 3, S, S) float32; other shapes need S >= 2 in both directions.
        sigma: (N,) standard deviations in pixels, > 0 and at most 2: the kernel has 23 taps
            (fewer where the image is smaller, whose border it may reflect only once).

    Returns:
        (N, 3, S, S), new memory.

    Source: SimCLR's blur as MoCo-v2 uses it; equal to torchvision's `gaussian_blur`.
    Differs: PIL, in the published code, approximates the kernel by three box filters and repeats
    the border pixel instead of reflecting.
    """
    sigma = sigma.to(images.device, non_blocking=True)
    height, width = images.shape[-2:]
    vertical = _reflected_gaussian(sigma, height)
    horizontal = vertical if height == width else _reflected_gaussian(sigma, width)
    return _apply_separable(images, vertical, horizontal)


BLUR_RADIUS = 11  # 23 taps, 5.5 standard deviations of the widest published blur


def _reflected_gaussian(sigma: Tensor, length: int) -> Tensor:
    """Blur matrices (R, length, length) with the border reflected, not repeated; rows sum to one.

    Seen from pixel i, pixel j lies at distance |j - i|, once more at i + j in the mirror that is
    the left border pixel, and at 2 (length - 1) - i - j in the right one.
    """
    radius = min(BLUR_RADIUS, length - 1)
    taps = torch.arange(2 * length - 1, device=sigma.device)  # every distance that occurs
    kernel = torch.exp(-0.5 * (taps / sigma[:, None]) ** 2)
    # Weights too small to matter would make the products denormal, which are 10 times slower.
    kernel *= (kernel > 1e-12) & (taps <= radius)
    kernel /= 2 * kernel.sum(1, keepdim=True) - kernel[:, :1]
    both_sides = torch.cat((kernel[:, 1:length].flip(1), kernel[:, :length]), dim=1)
    weights = both_sides.unfold(1, length, 1).flip(1)  # [i, j] = kernel[|j - i|]
    left = kernel.unfold(1, length, 1).clone()  # [i, j] = kernel[i + j]
    left[:, :, 0] = 0  # a pixel on the mirror is met once
    return weights.add_(left).add_(left.flip(1, 2))


def normalize_into(
    views: Tensor, images: Tensor, mean: Sequence[float], std: Sequence[float]
) -> None:
    """Write (images - mean) / std per channel, in one pass over the pixels.

    Args:
        views: (N, 3, H, W) float32, overwritten; any memory format.
        images: (N, 3, H, W) float32.
        mean: of each channel.
        std: of each channel, > 0.
    """
    for channel, (shift, scale) in enumerate(zip(mean, std, strict=True)):
        start = torch.full((), -shift / scale, device=images.device)
        torch.add(start, images[:, channel], alpha=1 / scale, out=views[:, channel])

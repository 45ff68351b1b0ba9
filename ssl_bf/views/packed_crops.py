"""Crops of photographs of unequal size, all at once: one by one, a GPU would wait for the host.

Shapes: N images of any sizes in one buffer, S x S pixels of a view.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_bf.pixels.packed_images import CHANNELS, PackedImages
from ssl_bf.views.batch_ops import crop_and_resize
from ssl_bf.views.image_ops import crop_and_resize_each

STEP = 16  # pixels; sides are rounded up to it, so that few shapes occur
MOST_PADDING = 4  # times the pixels of the crops


def crop_and_resize_packed(images: PackedImages, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
    """`crop_and_resize` of N images, in a number of operations that does not depend on N.

    The boxes are copied into a batch as high and wide as the largest of them. Where one is so much
    larger than the others that nearly all of the batch would be padding, they are resized one after
    the other instead.

    Args:
        images: on any device; starts and sizes on the CPU.
        boxes: (N, 4) int64 on the CPU: top, left, height, width.
        flip: (N,) bool on the CPU.
        size: S.

    Returns:
        (N, 3, S, S) float32 in [0, 1].
    """
    extents = boxes[:, 2:]
    sides = (extents.amax(0) + STEP - 1) // STEP * STEP
    if int(sides.prod()) * len(boxes) > MOST_PADDING * int(extents.prod(1).sum()):
        return crop_and_resize_each(list(images.images()), boxes, flip, size)
    whole = torch.cat((torch.zeros_like(extents), extents), dim=1)
    return crop_and_resize(_padded(images, boxes, sides.tolist()), whole, flip, size)


def _padded(images: PackedImages, boxes: Tensor, sides: list[int]) -> Tensor:
    """(N, 3, *sides) uint8: the boxes, whose last row and column are repeated; on their device."""
    device, starts = images.data.device, images.starts
    assert not bool((starts % CHANNELS).any()), "an image begins inside a pixel"
    top, left, height, width = boxes.unbind(1)
    row_length = images.sizes[:, 1]
    first = starts // CHANNELS + top * row_length + left  # pixels from the begin of the buffer
    first, row_length, height, width = (
        column[:, None].to(device, non_blocking=True)
        for column in (first, row_length, height, width)
    )
    y, x = (torch.arange(side, device=device) for side in sides)
    rows = first + torch.minimum(y, height - 1) * row_length
    index = rows[:, :, None] + torch.minimum(x, width - 1)[:, None, :]
    pixels = images.data[: len(images.data) // CHANNELS * CHANNELS].view(-1, CHANNELS)
    return pixels[index].permute(0, 3, 1, 2)

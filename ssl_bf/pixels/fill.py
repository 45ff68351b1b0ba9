"""Load training pixels into the memory of the machine or of a GPU, if there is room.

Shapes: M images, B bytes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from linear_eval.system.distributed import is_main
from linear_eval.system.errors import InputError
from linear_eval.system.screen import progress_bar
from ssl_bf.pixels.packed_images import PackedImages, image_bytes, num_bytes, starts_of
from ssl_bf.pixels.store import ReadImage, decode_in_order

MIB = 2**20
CHUNK_BYTES = 2**28  # copied to a GPU at a time
MARGIN = 1.1  # room beyond what a sample of the images lets expect


class NoRoomError(Exception):
    """The images do not fit; the message says what they take and what there is."""


def load(images: PackedImages, where: torch.device, budget: int, name: str) -> PackedImages:
    """Copy images, maybe from a file, to a device without the gaps between them.

    Raises:
        NoRoomError: they take more than `budget` bytes, or the device refuses.
    """
    needed = int(num_bytes(images.sizes).sum())
    _check_room(needed, budget, name)
    if where.type == "cpu":
        return images.compact()
    data = _buffer(needed, where, name)
    at_once = max(1, CHUNK_BYTES * len(images) // max(needed, 1))
    done = 0
    for rows in torch.arange(len(images)).split(at_once):
        part = images[rows].compact().data
        data[done : done + len(part)] = part
        done += len(part)
    return PackedImages(data, starts_of(images.sizes), images.sizes)


def fill(
    read_image: ReadImage,
    count: int,
    *,
    where: torch.device,
    budget: int,
    name: str,
    expected: int,
    on_bad_image: Literal["error", "skip"],
) -> tuple[PackedImages, dict[int, str]]:
    """Decode every image once.

    Args:
        read_image: makes the training pixels of an image.
        count: M.
        where: device to keep them on.
        budget: bytes that they may take.
        name: of the memory, for messages.
        expected: bytes that they will take, perhaps estimated.
        on_bad_image: error raises, skip leaves the image out.

    Returns:
        M images, bad ones with size 0 x 0; and the messages of these.

    Raises:
        NoRoomError: they take more than `budget` bytes, or the device refuses.
        InputError: none can be decoded.
    """
    _check_room(expected, budget, name)
    data = _buffer(min(budget, int(MARGIN * expected)), where, name)
    sizes, bad, end = torch.zeros((count, 2), dtype=torch.int64), dict[int, str](), 0
    images = decode_in_order(read_image, range(count), on_bad_image=on_bad_image)
    with progress_bar(images, "decoding", count, unit="image", is_quiet=not is_main()) as progress:
        for row, image in enumerate(progress):
            if isinstance(image, str):
                bad[row] = image
                continue
            start, end = end, end + image.numel()
            if end > len(data):
                data = _grown(data, end, budget, name)
            data[start:end] = image_bytes(image)
            sizes[row] = torch.tensor(image.shape[1:])
    if len(bad) == count:
        raise InputError(f"data: none of the {count} images can be decoded; look at data.root")
    return PackedImages(data[:end], starts_of(sizes), sizes), bad


def _grown(data: Tensor, needed: int, budget: int, name: str) -> Tensor:
    _check_room(needed, budget, name)
    larger = _buffer(min(budget, int(MARGIN * needed)), data.device, name)
    larger[: len(data)] = data
    return larger


def _check_room(needed: int, budget: int, name: str) -> None:
    if needed > budget:
        raise NoRoomError(f"{name}: {needed // MIB + 1} MiB do not fit into {budget // MIB} MiB")


def _buffer(size: int, where: torch.device, name: str) -> Tensor:
    try:
        return torch.empty(size, dtype=torch.uint8, device=where)
    except RuntimeError as error:  # torch.OutOfMemoryError on a GPU
        raise NoRoomError(f"{name}: {size // MIB + 1} MiB could not be had") from error

"""Images that are there more than once, byte for byte or nearly so.

Shapes: M images, T thumbnail side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

SIDE = 16  # T
NEAR = 0.99  # cosine of centred thumbnails from which on two images are the same photograph
FLAT = 4.0  # standard deviation of the grey levels below which a thumbnail says nothing
_AT_ONCE = 1024  # rows of a block of similarities


def thumbnail(image: Tensor) -> Tensor:
    """What two copies of a photograph have in common, whatever their size and compression.

    Args:
        image: (3, H, W) uint8.

    Returns:
        (3 * T * T,) float32, centred, of length 1; zeros of an image of nearly one colour.
    """
    small = functional.interpolate(image[None].float(), size=(SIDE, SIDE), mode="area").flatten()
    centred = small - small.mean()
    if float(centred.std()) < FLAT:
        return torch.zeros_like(centred)
    unit: Tensor = centred / centred.norm()
    return unit


def same_images(thumbnails: Tensor, digests: Sequence[bytes]) -> tuple[list[int], int, int]:
    """Groups of images that are one photograph.

    Args:
        thumbnails: (M, 3 * T * T), from `thumbnail`.
        digests: M, of the files' bytes.

    Returns:
        The group of every image (the number of its first image), and how many images are exact
        copies and near copies of an earlier one.
    """
    group = list(range(len(digests)))
    first: dict[bytes, int] = {}
    exact = 0
    for row, digest in enumerate(digests):
        known = first.setdefault(digest, row)
        exact += known != row
        group[row] = known
    near = 0
    for start in range(0, len(digests), _AT_ONCE):
        block = thumbnails[start : start + _AT_ONCE]
        pairs = (block @ thumbnails[: start + len(block)].T >= NEAR).nonzero().tolist()
        for row, other in ((start + row, other) for row, other in pairs if other < start + row):
            ours, theirs = _root(group, row), _root(group, other)
            if ours != theirs:
                near += 1
                group[max(ours, theirs)] = min(ours, theirs)
    return [_root(group, row) for row in range(len(group))], exact, near


def _root(group: list[int], row: int) -> int:
    while group[row] != row:
        row = group[row]
    return row

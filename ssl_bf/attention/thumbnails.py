"""Small square images for a picture.

Shapes: T side of a thumbnail in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from linear_eval.datasets.dataset import ImageSplit

    Pixels = NDArray[np.uint8]

SIDE = 64
WHITE = 255


def thumbnails(images: ImageSplit, indices: Iterable[int]) -> dict[int, Pixels]:
    """Each image once, whole, in the middle of a white square (T, T, 3)."""
    return {index: _thumbnail(images, index) for index in set(indices)}


def side_by_side(parts: Sequence[Pixels | None], columns: int) -> Pixels:
    """Line by line, white where there is none: (lines * T, columns * T, 3)."""
    lines = -(-len(parts) // columns)
    whole: Pixels = np.full((lines * SIDE, columns * SIDE, 3), WHITE, dtype=np.uint8)
    for number, part in enumerate(parts):
        if part is not None:
            top, left = number // columns * SIDE, number % columns * SIDE
            whole[top : top + SIDE, left : left + SIDE] = part
    return whole


def _thumbnail(images: ImageSplit, index: int) -> Pixels:
    from PIL import Image

    image = Image.fromarray(images.read(index).permute(1, 2, 0).contiguous().numpy())
    scale = SIDE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), dtype=np.uint8)
    square: Pixels = np.full((SIDE, SIDE, 3), WHITE, dtype=np.uint8)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    square[top : top + height, left : left + width] = small
    return square

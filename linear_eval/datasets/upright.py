"""EXIF orientation: how an image is to be turned so that it stands upright.

Shapes: H x W pixels.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from PIL import ExifTags, Image

if TYPE_CHECKING:
    from torch import Tensor

# What Pillow raises on damaged EXIF data, which makes no image bad.
_DAMAGED = (SyntaxError, ValueError, TypeError, KeyError, IndexError, OSError, struct.error)


def orientation_of(image: Image.Image) -> int:
    """1 (upright) to 8, as EXIF numbers them; 1 where nothing, or nothing sensible, is said."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGED:
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def turned(pixels: Tensor, orientation: int) -> Tensor:
    """Pixels (H, W, 3) of an image, turned upright; (W, H, 3) for orientations 5 to 8.

    What the numbers mean: 2 mirrored, 3 upside down, 4 both, 5 to 8 the same with rows and columns
    exchanged first.
    """
    if orientation >= 5:
        pixels = pixels.transpose(0, 1)
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return pixels.flip(flips).contiguous() if flips else pixels.contiguous()

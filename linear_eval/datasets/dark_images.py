"""16-bit files that hold 10 or 12 bits of data: read by their whole range they are nearly black."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from linear_eval.datasets.colour_forms import (
    is_sixteen_bit_colour,
    is_sixteen_bit_gray,
    sixteen_bit_values,
)
from linear_eval.datasets.decode import PILLOW_FAILURES
from linear_eval.datasets.decoding import WHITE, Decoding
from linear_eval.datasets.image_files import FoundImage
from linear_eval.datasets.image_formats import FORMATS
from linear_eval.system.printable import printable

LEAST_SHARE = 1 / 16  # of the range: whoever uses less has fewer than 16 of 256 gray levels
_FIRST, _SAMPLE = 4, 32
_SUFFIXES = (".png", ".apng", ".tif", ".tiff", ".pgm", ".ppm", ".pnm")


def dark_note(folder: Path, images: Sequence[FoundImage], decoding: Decoding) -> tuple[str, ...]:
    """A line where the 16-bit images among these use less than a sixteenth of their range.

    A few headers are looked at, and only if they say 16 bits, the pixels of up to 32 images.
    """
    paths = [image.path for image in images if image.path.lower().endswith(_SUFFIXES)]
    if not any(_brightest(folder / path, decoding) is not None for path in _spread(paths, _FIRST)):
        return ()
    found = [_brightest(folder / path, decoding) for path in _spread(paths, _SAMPLE)]
    brightest = max((value for value in found if value is not None), default=decoding.white_level)
    if brightest > LEAST_SHARE * decoding.white_level:
        return ()
    wanted = max(1, 2 ** int(brightest).bit_length() - 1)
    return (
        f"{printable(str(folder))}: its 16-bit images have values up to {brightest}, of "
        f"{decoding.white_level} that are white, so they come out nearly black; if they hold "
        f"{wanted.bit_length()} bits, set data.white_level={wanted} (gray images only)",
    )


def _spread(paths: Sequence[str], count: int) -> list[str]:
    """Up to `count` of them, evenly spread."""
    rows = sorted({row * len(paths) // count for row in range(count)}) if paths else []
    return [paths[row] for row in rows]


def _brightest(path: Path, decoding: Decoding) -> int | None:
    """The largest value of a 16-bit image; None for any other, and where it cannot be read."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.size[0] * image.size[1] > decoding.max_pixels:
                return None
            if is_sixteen_bit_colour(image):
                return int(np.asarray(image).max()) * (WHITE // 255)
            return int(sixteen_bit_values(image).max()) if is_sixteen_bit_gray(image) else None
    except PILLOW_FAILURES:  # whoever reads the image says so
        return None

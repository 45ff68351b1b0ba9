"""Every form of pixels that Pillow opens -> RGB in bytes.

Shapes: H x W pixels.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from PIL import Image, ImageCms

from linear_eval.datasets.decoding import WHITE

Pixels: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"

# Files that Pillow opens as 32-bit integers although they hold 16-bit values.
_SIXTEEN_BIT_IN_32 = ("PNG", "PPM")
# Tags of TIFF.
_BITS, _PHOTOMETRIC, _PLANES = 258, 262, 284


class UnreadableForm(ValueError):  # noqa: N818 - an image, not a program, is wrong
    """Pixels whose meaning is not known; the message is a clause."""


def rgb_pixels(image: Image.Image, white_level: int = WHITE) -> Pixels:
    """(H, W, 3) uint8 of an opened image.

    Gray values are repeated; transparent pixels are put on white; 16-bit gray values v become
    round(255 v / white_level), of 16-bit colours the upper byte is taken. Colour profiles are not
    applied, as the loaders of this field do not; Lab is taken as D50.

    Raises:
        UnreadableForm: 32-bit pixels or 16-bit planes, which Pillow reads wrongly, or 16-bit
            colours that are to be rescaled.
    """
    _check_form(image, white_level)
    if is_sixteen_bit_gray(image):
        return _from_sixteen_bit(image, white_level)
    if image.mode in ("I", "F"):
        raise UnreadableForm(
            "has 32-bit or signed pixels whose range is unknown, expected 8 or 16 bits per channel"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return np.array(Image.alpha_composite(white, image).convert("RGB"))
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None
        image = converted
    return np.array(image.convert("RGB"))


def is_sixteen_bit_gray(image: Image.Image) -> bool:
    """Whether each pixel is one value of 16 bits."""
    return image.mode.startswith("I;16") or (
        image.mode == "I" and image.format in _SIXTEEN_BIT_IN_32
    )


def is_sixteen_bit_colour(image: Image.Image) -> bool:
    """Whether the file has colours of 16 bits, of which Pillow takes the upper byte.

    Ask before the pixels are loaded.
    """
    return not is_sixteen_bit_gray(image) and any(
        ";16" in str(tile[3]) for tile in getattr(image, "tile", ())
    )


def sixteen_bit_values(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]]:
    """(H, W) values of a 16-bit gray image, 0 to 65535, the largest the brightest."""
    values = np.asarray(image).astype(np.uint32)
    # Pillow turns 8-bit images around that are stored with white as 0, and leaves 16-bit ones
    return WHITE - values if _tag(image, _PHOTOMETRIC, 1) == 0 else values


def _check_form(image: Image.Image, white_level: int) -> None:
    bits = _tag(image, _BITS, 8)
    if _tag(image, _PLANES, 1) == 2 and bits == 16:
        raise UnreadableForm(
            "has 16-bit colours in separate planes, which Pillow reads wrongly, expected 8 bits or "
            "the colours of a pixel side by side"
        )
    if white_level != WHITE and is_sixteen_bit_colour(image):
        raise UnreadableForm(
            f"has 16-bit colours, and data.white_level={white_level} rescales gray images only, "
            "expected gray or 8 bits"
        )


def _tag(image: Image.Image, number: int, default: int) -> int:
    """A number among the tags of a TIFF file; of several, the first."""
    tags = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
    found = default if tags is None else tags.get(number, default)
    return int(found[0] if isinstance(found, tuple) else found)


def _from_sixteen_bit(image: Image.Image, white_level: int) -> Pixels:
    values = sixteen_bit_values(image)
    scaled = (values * 255 + white_level // 2) // white_level  # exact: white -> 255, rounded
    gray = np.minimum(scaled, 255).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        gray[values == transparent] = 255
    return np.repeat(gray[:, :, None], 3, axis=2)

"""Which kinds of image files are read: one table of formats and the suffixes they come under.

Only the parsers of these formats run: Pillow knows many more, and some start other programs.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import BinaryIO

from PIL import Image, features

_SUFFIXES = {
    "JPEG": "jpg jpeg jpe jfif jif jfi mpo",
    "PNG": "png apng",
    "WEBP": "webp",
    "BMP": "bmp",
    "DIB": "dib",
    "PPM": "ppm pgm pbm pnm",
    "TIFF": "tif tiff",
    "GIF": "gif",
}
_AVIF_SUFFIXES = "avif avifs"
HEIF_SUFFIXES = frozenset(("heic", "heif", "hif"))
HEIF_ADVICE = "pip install 'ssl-bf[photos]' reads them"

# Pillow 11.3 and later hold the decoder, unless they were built without it.
HAS_AVIF = "avif" in features.modules and bool(features.check("avif"))
FORMATS = (*_SUFFIXES, "AVIF") if HAS_AVIF else tuple(_SUFFIXES)

_BRAND = slice(8, 12)
_HEAD_BYTES = 64
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


class MissingHeifError(ValueError):
    """A HEIF file, and the extra that reads it is not installed."""


def has_heif() -> bool:
    """Whether the extra `photos` (pillow-heif) is installed; it is not loaded for that."""
    return importlib.util.find_spec("pillow_heif") is not None


@functools.cache
def image_suffixes() -> frozenset[str]:
    """Suffixes, in lower case and without the dot, of the files that are read as images."""
    readable = " ".join(_SUFFIXES.values()).split() + _AVIF_SUFFIXES.split() * HAS_AVIF
    return frozenset(readable) | (HEIF_SUFFIXES if has_heif() else frozenset())


def parsers_for(file: BinaryIO) -> tuple[str, ...]:
    """The formats that Pillow may try on an opened file, which is left at its beginning.

    Raises:
        MissingHeifError: the file is HEIF, whatever its name, and its parser is not installed.
    """
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    is_avif = b"avif" in head[8:] or b"avis" in head[8:]
    if head[4:8] != b"ftyp" or head[_BRAND] not in _HEIF_BRANDS or is_avif:
        return FORMATS
    if not has_heif():
        raise MissingHeifError("is a HEIF image, and pillow-heif is not installed")
    _register_heif()
    return ("HEIF",)


@functools.cache
def _register_heif() -> None:
    import pillow_heif  # only where such a file is met: one more parser of foreign bytes

    Image.init()
    pillow_heif.options.DECODE_THREADS = 1  # images are decoded on one core each
    pillow_heif.register_heif_opener()

"""Image files -> RGB pixels, whatever colour mode the file has; every failure names the file."""

from __future__ import annotations

import functools
import io
import struct
import warnings
import zlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

import torch
from PIL import Image, UnidentifiedImageError

from linear_eval.datasets.colour_forms import UnreadableForm, rgb_pixels
from linear_eval.datasets.decoding import Decoding
from linear_eval.datasets.image_formats import FORMATS, MissingHeifError, parsers_for
from linear_eval.datasets.library_warnings import CountedWarnings
from linear_eval.datasets.upright import orientation_of, turned
from linear_eval.system.errors import InputError, require_matching_torch
from linear_eval.system.printable import printable

if TYPE_CHECKING:
    from torch import Tensor

AS_STORED = Decoding()
# Pillow's parsers raise all of these on damaged or hostile files.
PILLOW_FAILURES = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
# Pillow warns from 89 million pixels on; how many are too many is data.max_pixels here.
CountedWarnings().install()
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", "The image decoding", DeprecationWarning, "torchvision.io")


class BadImageError(InputError):
    """A file that should be an image cannot be decoded."""


def decode_image(source: Path | bytes, name: str, decoding: Decoding = AS_STORED) -> Tensor:
    """Decode an image file to RGB; `rgb_pixels` says what becomes of its colours.

    Of an animation the first frame is taken.

    Args:
        source: a path, or the bytes of the file.
        name: how messages call the image.
        decoding: orientation, the white of 16-bit images, and how many pixels are too many.

    Returns:
        (3, H, W) uint8; in memory the three channels of a pixel lie together, as in the file.

    Raises:
        BadImageError: unreadable, damaged, not one of FORMATS, too many pixels (known from the
            header, before anything is decoded), or pixels whose meaning is not known.
    """
    if decoding.max_pixels > (Image.MAX_IMAGE_PIXELS or decoding.max_pixels):
        Image.MAX_IMAGE_PIXELS = decoding.max_pixels  # Pillow refuses twice as many by itself
    try:
        with (
            io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file,
            Image.open(file, formats=parsers_for(file)) as image,
        ):
            _check_size(image, decoding.max_pixels)
            plain = _plain_jpeg(image, file)
            if plain is None:
                plain = torch.from_numpy(rgb_pixels(image, decoding.white_level))
            # asked last: of a TIFF, Pillow has turned the pixels by now
            orientation = orientation_of(image) if decoding.orientation == "exif" else 1
    except BadImageError as error:
        raise BadImageError(f"{printable(name)}: {error}{OR_SKIP}") from None
    except UnreadableForm as error:
        raise BadImageError(f"{printable(name)}: {error}; {_ADVICE}") from None
    except InputError:  # no fault of the file
        raise
    except MissingHeifError as error:
        raise BadImageError(
            f"{printable(name)}: {error}, expected {', '.join(FORMATS)};"
            f" pip install 'ssl-bf[photos]', or {_ADVICE}"
        ) from None
    except PILLOW_FAILURES as error:
        raise _undecodable(name, error) from error
    return turned(plain, orientation).permute(2, 0, 1)


def read_image_file(path: Path, name: str) -> bytes:
    """The bytes of an image file, to be decoded by `decode_image`.

    Raises:
        BadImageError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise _undecodable(name, error) from error


def _undecodable(name: str, error: BaseException) -> BadImageError:
    return BadImageError(
        f"{printable(name)}: cannot be decoded ({_reason(error)}),"
        f" expected a whole image file ({', '.join(FORMATS)}); {_ADVICE}"
    )


OR_SKIP = ", or set data.on_bad_image=skip"  # left out where it is set
_ADVICE = f"replace or remove the file{OR_SKIP}"


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height < 1:
        raise UnreadableForm(f"is {width} x {height} pixels, expected some")
    if width * height > max_pixels:
        raise BadImageError(
            f"is {width} x {height} pixels, expected at most {max_pixels}; set "
            f"data.max_pixels={width * height}, replace or remove the file"
        )


def _plain_jpeg(image: Image.Image, file: BinaryIO) -> Tensor | None:
    """(H, W, 3) uint8 of a usual JPEG; None for what Pillow has to look at.

    torchvision calls the same library and gives the same pixels in three quarters of the time, but
    it makes up what is missing of a file that was cut off.
    """
    if image.format != "JPEG" or image.mode != "RGB":
        return None
    place = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(place)
    torchvision_io = _torchvision_io()
    decode = getattr(torchvision_io, "decode_jpeg", None)  # announced to go in a later version
    if decode is None or not content.endswith(_END_OF_JPEG):
        return None
    try:
        decoded: Tensor = decode(
            torch.frombuffer(bytearray(content), dtype=torch.uint8),
            torchvision_io.ImageReadMode.RGB,
        )
    except RuntimeError:  # Pillow says what is wrong with it
        return None
    return decoded.permute(1, 2, 0).contiguous()


_END_OF_JPEG = b"\xff\xd9"


@functools.cache
def _torchvision_io() -> ModuleType:
    """Imported at the first JPEG, because importing takes seconds."""
    require_matching_torch()
    from torchvision import io as torchvision_io

    imported: ModuleType = torchvision_io
    return imported


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):  # whose text shows the file as Python's object
        return "not recognised as an image"
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {printable(lines[0])}" if lines else type(error).__name__

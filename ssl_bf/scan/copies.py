"""Every image is read once: its thumbnail is kept, and a small copy for all runs to come."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image as PilImage
from torch import Tensor
from torch.nn import functional

from linear_eval.datasets.decode import BadImageError
from linear_eval.system.cores import usable_cores
from linear_eval.system.screen import progress_bar
from ssl_bf.scan.duplicates import thumbnail
from ssl_bf.scan.found import Image

_QUALITY = 95


@dataclass(frozen=True, eq=False)
class Looked:
    """What was seen of one image.

    Attributes:
        image: it.
        problem: why it cannot be read; "" where it can.
        digest: SHA-256 of its bytes.
        thumbnail: see `thumbnail`; None where it cannot be read.
        size: height and width in pixels.
        copy: the bytes of a smaller copy; None where the file itself is small enough.
    """

    image: Image
    problem: str = ""
    digest: bytes = b""
    thumbnail: Tensor | None = None
    size: tuple[int, int] = (0, 0)
    copy: bytes | None = None

    def write(self, place: Path) -> None:
        """The image as all runs see it: a link to the file, or the smaller copy."""
        if self.copy is None:
            place.symlink_to(self.image.path.absolute())
        else:
            place.write_bytes(self.copy)


def look_at(images: Sequence[Image], side: int) -> list[Looked]:
    """Read every image.

    Args:
        images: of the folder.
        side: copies have a short side of so many pixels; an image with less stays as it is.
    """
    # torch counts threads by thread: without this each of ours would start a team of its own
    with ThreadPoolExecutor(usable_cores(), initializer=lambda: torch.set_num_threads(1)) as pool:
        looked = pool.map(lambda image: _look(image, side), images)
        bar = progress_bar(looked, "images", len(images), unit="image")
        with bar:
            return list(bar)


def _look(image: Image, side: int) -> Looked:
    try:
        pixels = image.read()
        content = image.path.read_bytes()
    except (BadImageError, OSError) as error:
        return Looked(image, problem=str(error))
    height, width = pixels.shape[-2:]
    return Looked(
        image,
        digest=hashlib.sha256(content).digest(),
        thumbnail=thumbnail(pixels),
        size=(height, width),
        copy=_smaller(pixels, side) if min(height, width) > side else None,
    )


def _smaller(pixels: Tensor, side: int) -> bytes:
    scale = side / min(pixels.shape[-2:])
    height, width = (max(side, round(scale * length)) for length in pixels.shape[-2:])
    small = functional.interpolate(
        pixels[None].float(), size=(height, width), mode="bilinear", antialias=True
    )[0]
    rows = small.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()
    with io.BytesIO() as file:
        PilImage.fromarray(rows.numpy()).save(file, "JPEG", quality=_QUALITY)
        return file.getvalue()

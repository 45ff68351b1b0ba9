"""How the pixels of image files are understood: the keys, and the identity they give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from linear_eval.datasets.dataset import DatasetSettings

Orientation = Literal["exif", "stored"]

WHITE = 65535
MAX_PIXELS = 50_000_000


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """What a reader of image files does.

    Attributes:
        orientation: exif: images are turned upright as their EXIF data say; stored: they stay as
            Pillow and torchvision's loaders hand them out.
        white_level: the value of a 16-bit gray image that becomes white.
        max_pixels: images of more are refused.
    """

    orientation: Orientation = "stored"
    white_level: int = WHITE
    max_pixels: int = MAX_PIXELS

    def identity(self) -> str:
        """Settings that change which pixels are read, as text; "" for the first version."""
        parts = []
        if self.orientation != "stored":
            parts.append(f"data.orientation={self.orientation}")
        if self.white_level != WHITE:
            parts.append(f"data.white_level={self.white_level}")
        if self.max_pixels != MAX_PIXELS:  # larger ones may be left out
            parts.append(f"data.max_pixels={self.max_pixels}")
        return " ".join(parts)


@dataclass(frozen=True, kw_only=True)
class ImageFileSettings(DatasetSettings):
    """Keys of the data sets whose images are files.

    Attributes:
        orientation: exif turns images upright as cameras mean it, stored leaves them as they lie in
            the file, as all published numbers have it.
        white_level: the value of a 16-bit gray image that becomes white, the same for all images: a
            camera of 12 bits has 4095. Brighter pixels are white as well.
        max_pixels: an image of more is refused, or skipped, before it is decoded; decoding takes 3
            bytes a pixel, twice for a moment.
    """

    orientation: Orientation = "stored"
    white_level: int = WHITE
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        """Refuse a white level outside the 16-bit range, and fewer than one pixel.

        Raises:
            ValueError: a value is outside its range; the message begins with the key.
        """
        super().__post_init__()
        if not 1 <= self.white_level <= WHITE:
            raise ValueError(f"white_level: must be 1 to {WHITE}, got {self.white_level}")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels: must be >= 1, got {self.max_pixels}")

    @property
    def decoding(self) -> Decoding:
        """What their reader does."""
        return Decoding(
            orientation=self.orientation,
            white_level=self.white_level,
            max_pixels=self.max_pixels,
        )

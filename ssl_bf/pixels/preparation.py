"""What happens to an image once, before any view is cut out of it: its training pixels.

Wherever the pixels are kept, they are those that `prepare` makes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from linear_eval.datasets.decode import decode_image
from linear_eval.images.batches import EvalImages


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How a decoded image becomes training pixels.

    Attributes:
        short_side: larger images are reduced, antialiased, until their short side has so many
            pixels; smaller ones are never enlarged. None keeps them as decoded.
        jpeg_quality: the image passes once through JPEG of this quality, 1 to 100. None keeps it
            exact.
    """

    short_side: int | None = None
    jpeg_quality: int | None = None

    def __post_init__(self) -> None:
        if self.short_side is not None and self.short_side < 2:
            raise ValueError(f"short_side: must be >= 2, got {self.short_side}")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality: must be 1 to 100, got {self.jpeg_quality}")

    def prepare(self, image: Tensor) -> Tensor:
        """Training pixels of a decoded image.

        Args:
            image: (3, H, W) uint8.

        Returns:
            (3, H', W') uint8; in memory the three channels of a pixel lie together.
        """
        if self.jpeg_quality is not None:
            return decoded(self.encode(image))
        return channels_together(self.reduce(image))

    def reduce(self, image: Tensor) -> Tensor:
        """The image with its short side as asked for; (3, H, W) -> (3, H', W') uint8."""
        if self.short_side is None or min(image.shape[1:]) <= self.short_side:
            return image
        # Twice as fast on this layout, with the same result.
        batch = image[None].contiguous(memory_format=torch.channels_last)
        return EvalImages(resize=self.short_side).apply(batch)[0]

    def encode(self, image: Tensor) -> Tensor:
        """The bytes of the JPEG that the image passes through; (3, H, W) -> (B,) uint8."""
        assert self.jpeg_quality is not None
        file = io.BytesIO()
        pixels = channels_together(self.reduce(image)).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(file, "JPEG", quality=self.jpeg_quality)
        return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def decoded(jpeg: Tensor) -> Tensor:
    """Pixels of what `Preparation.encode` made; (B,) -> (3, H, W) uint8, channels together."""
    return channels_together(decode_image(jpeg.numpy().tobytes(), "packed image"))


def channels_together(image: Tensor) -> Tensor:
    """The same (3, H, W) with the channels of a pixel side by side, as decoders deliver them."""
    return image.permute(1, 2, 0).contiguous().permute(2, 0, 1)

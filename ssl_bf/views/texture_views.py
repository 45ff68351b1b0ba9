"""Operations on textures: drawn beforehand for a whole batch, then applied.

Shapes: N images of a batch, S x S pixels of a view.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_bf.pixels.packed_images import Images, PackedImages
from ssl_bf.views.batch_ops import rotate_and_crop
from ssl_bf.views.colour_ops import colour_affine


@dataclass(frozen=True, eq=False)
class TextureWindows:
    """A window and a map of the colours for each of N images; tensors on the CPU.

    Attributes:
        angle: (N,), see `rotate_and_crop`.
        side: (N,), likewise.
        centre: (N, 2), likewise.
        flip: (N,) bool, likewise.
        matrix: (N, 3, 3), see `colour_affine`; of images in [0, 1].
        offset: (N, 3), likewise.
    """

    angle: Tensor
    side: Tensor
    centre: Tensor
    flip: Tensor
    matrix: Tensor
    offset: Tensor

    def __getitem__(self, rows: slice) -> TextureWindows:
        """Those of some of the images."""
        columns = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return TextureWindows(**{name: column[rows] for name, column in columns.items()})

    def views(self, images: Images | PackedImages, size: int) -> Tensor:
        """N images (3, H, H) uint8 -> (N, 3, S, S) float32 in [0, 1]."""
        assert not isinstance(images, PackedImages), "packed images of one size are a batch"
        pixels = images if isinstance(images, Tensor) else torch.stack(list(images))
        windows = rotate_and_crop(
            pixels.to(torch.float32),
            angle=self.angle,
            side=self.side,
            centre=self.centre,
            flip=self.flip,
            size=size,
        )
        return colour_affine(windows, self.matrix / 255, self.offset)  # from bytes in the same pass

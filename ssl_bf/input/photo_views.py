"""What is done to photographs, drawn beforehand for a whole batch, and the doing.

Shapes: N images of a batch, S x S pixels of a view.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ssl_bf.input.batch_ops import crop_and_resize, gaussian_blur_
from ssl_bf.input.colour_ops import colour_jitter, grayscale_, luma, solarize_
from ssl_bf.input.image_colours import jitter_, solarized
from ssl_bf.input.image_ops import blurred, crop_and_resize_each, cropped, prefer_one_at_a_time


class Photo(NamedTuple):
    """What is done to one photograph, in this order; a row of `Photos`."""

    box: list[int]
    flip: bool
    factors: list[float]
    order: list[int]
    gray: bool
    sigma: float
    solarize: bool


@dataclass(frozen=True, eq=False)
class Photos:
    """What is done to N photographs, in this order; tensors on the CPU.

    Attributes:
        box: (N, 4) int64: top, left, height, width of the crop that is resized.
        flip: (N,) bool, mirrored left to right.
        factors: (N, 4) of the colour jitter, see `colour_jitter`.
        order: (N, 4) int64 of its operations.
        gray: (N,) bool.
        sigma: (N,) standard deviation of the blur in pixels of the view; 0 leaves it out.
        solarize: (N,) bool.
    """

    box: Tensor
    flip: Tensor
    factors: Tensor
    order: Tensor
    gray: Tensor
    sigma: Tensor
    solarize: Tensor

    def __getitem__(self, rows: slice) -> Photos:
        """Those of some of the images."""
        return Photos(*(column[rows] for column in self._columns()))

    def each(self) -> Iterator[Photo]:
        """One image after the other."""
        columns = (column.tolist() for column in self._columns())
        return (Photo(*values) for values in zip(*columns, strict=True))

    def _columns(self) -> Sequence[Tensor]:
        return [getattr(self, name) for name in Photo._fields]

    def views(self, images: Tensor | Sequence[Tensor], size: int) -> Tensor:
        """All of it to a batch at once.

        Args:
            images: (N, 3, H, W) uint8, or N tensors (3, H_i, W_i) uint8.
            size: S.

        Returns:
            (N, 3, S, S) float32 in [0, 1].
        """
        if isinstance(images, Tensor) and not prefer_one_at_a_time(
            images.device, max(images.shape[-2:])
        ):
            views = crop_and_resize(images, self.box, self.flip, size)
        else:
            views = crop_and_resize_each(list(images), self.box, self.flip, size)
        views = colour_jitter(views, self.factors, self.order)
        views = grayscale_(views, _chosen(self.gray))
        rows = _chosen(self.sigma > 0)
        views = gaussian_blur_(views, rows, self.sigma[rows])
        return solarize_(views, _chosen(self.solarize))


def view_of_one(image: Tensor, photo: Photo, size: int) -> Tensor:
    """The view that `Photos.views` gives, of a single image on the CPU.

    Args:
        image: (3, H, W) uint8.
        photo: what is done to it.
        size: S.

    Returns:
        (3, S, S) float32 in [0, 255].

    What a large image needs is known from its row alone, nothing else is computed, and its view
    stays in the processor's cache meanwhile.
    """
    view = cropped(image, photo.box, size, mirrored=photo.flip)
    view = jitter_(view, photo.factors, photo.order)
    if photo.gray:
        view = luma(view)[None]  # a single channel until the end
    if photo.sigma > 0:
        view = blurred(view, photo.sigma)
    if photo.solarize:
        view = solarized(view)
    return view.expand(3, -1, -1)


def _chosen(mask: Tensor) -> Tensor:
    """Row numbers of a mask on the CPU; (N,) -> (R,)."""
    return mask.nonzero()[:, 0]

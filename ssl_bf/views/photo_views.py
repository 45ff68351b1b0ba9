"""Operations on photographs: drawn beforehand for a whole batch, then applied.

Shapes: N images of a batch, S x S pixels of a view.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor

from ssl_bf.pixels.packed_images import Images, PackedImages
from ssl_bf.views.batch_ops import Resize, crop_and_resize, gaussian_blur_
from ssl_bf.views.colour_ops import colour_jitter, grayscale_, luma, solarize_
from ssl_bf.views.image_colours import jitter_, solarized
from ssl_bf.views.image_ops import (
    blurred,
    crop_and_enlarge,
    crop_and_resize_each,
    cropped,
    prefer_one_at_a_time,
)
from ssl_bf.views.packed_crops import crop_and_resize_packed


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
        blur_room: so many rows are blurred at most, but for one batch in a million.
    """

    box: Tensor
    flip: Tensor
    factors: Tensor
    order: Tensor
    gray: Tensor
    sigma: Tensor
    solarize: Tensor
    blur_room: int

    @property
    def blur_fits(self) -> bool:
        """Whether no more rows are blurred than `blur_room`."""
        return int((self.sigma > 0).sum()) <= self.blur_room

    def __getitem__(self, rows: slice) -> Photos:
        """Those of some of the images."""
        return replace(self, **{name: getattr(self, name)[rows] for name in Photo._fields})

    def each(self) -> Iterator[Photo]:
        """One image after the other."""
        columns = (getattr(self, name).tolist() for name in Photo._fields)
        return (Photo(*values) for values in zip(*columns, strict=True))

    def cropped(
        self, images: Images | PackedImages, size: int, *, resize: Resize = crop_and_resize
    ) -> Tensor:
        """Crop, resize and mirror a batch.

        Args:
            images: (N, 3, H, W) uint8, N tensors (3, H_i, W_i) uint8, or N packed images.
            size: S.
            resize: `crop_and_resize`, maybe compiled; only where the images are a tensor, whose
                shape does not change from batch to batch.

        Returns:
            (N, 3, S, S) float32 in [0, 1].
        """
        if isinstance(images, PackedImages):
            return crop_and_resize_packed(images, self.box, self.flip, size)
        if isinstance(images, list) or prefer_one_at_a_time(images.device, max(images.shape[-2:])):
            return crop_and_resize_each(list(images), self.box, self.flip, size)
        if images.device.type == "cpu" and max(images.shape[-2:]) <= size:
            return crop_and_enlarge(images, self.box, self.flip, size)
        return resize(images, self.box, self.flip, size)

    def views(self, images: Images | PackedImages, size: int) -> Tensor:
        """All of it to a batch at once; arguments and result as in `cropped`."""
        views = self.cropped(images, size)
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

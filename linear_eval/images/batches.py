"""The evaluation transform, and a split of images as batches of one size.

Shapes: N images of a batch, M images of a split.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch

from linear_eval.datasets.bad_images import check_bad_images
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decode import OR_SKIP, BadImageError
from linear_eval.datasets.decoding import MAX_PIXELS
from linear_eval.images.thin_images import is_thin, resized_centre
from linear_eval.system.cores import reading_threads
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable
from linear_eval.system.serial_threads import serial_threads

if TYPE_CHECKING:
    from torch import Tensor

EmbeddedBatch = tuple["Tensor", "Tensor", tuple[int, int]]
"""Index into the split (N,) int64, features (N, D) float32, and height and width of the images."""


@dataclass(frozen=True)
class EvalImages:
    """How an image reaches the backbone: the short side resized, then the centre cut out.

    The resize is bilinear with antialiasing, on uint8.

    Attributes:
        resize: length of the short side in pixels; None leaves the images as they are.
        crop: side of the centre in pixels; None keeps everything.
    """

    resize: int | None = None
    crop: int | None = None

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: must be >= 1, got {value}")
        if self.resize is not None and self.crop is not None and self.crop > self.resize:
            raise ValueError(f"crop: must be <= resize ({self.resize}), got {self.crop}")

    def apply(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 -> (N, 3, H', W') uint8.

        Raises:
            InputError: an image is smaller than the crop.
            BadImageError: without a crop, a thin image would become enormous.
        """
        height, width = images.shape[-2:]
        short = min(height, width)
        if self.resize is not None and self.resize != short:
            # the long side is cut to an integer, not rounded, as torchvision does
            size = (height * self.resize // short, width * self.resize // short)
            if is_thin((height, width)):
                return self._of_thin(images, size)
            images = torch.nn.functional.interpolate(
                images, size=list(size), mode="bilinear", antialias=True
            )
        return images if self.crop is None else _centre_crop(images, self.crop)

    def _of_thin(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Images that `THIN` calls thin, which are to have this size before the centre is cut."""
        if self.crop is not None:
            return resized_centre(images, size, self.crop)
        if size[0] * size[1] > max(MAX_PIXELS, images.shape[-2] * images.shape[-1]):
            raise BadImageError(
                f"images.resize: {self.resize} makes {size[1]} x {size[0]} pixels of the image's "
                f"{images.shape[-1]} x {images.shape[-2]}, expected at most {MAX_PIXELS}; set "
                f"images.crop={self.resize} as well{OR_SKIP}"
            )
        return torch.nn.functional.interpolate(
            images, size=list(size), mode="bilinear", antialias=True
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageBatches:
    """A split in order, `batch_size` images at a time, decoded in a few threads.

    With `on_bad_image` "skip", images that cannot be read are left out of their batch.
    """

    split: ImageSplit
    images: EvalImages
    batch_size: int
    on_bad_image: Literal["error", "skip"] = "error"
    max_bad: float = 1.0  # share of the images that may be skipped; `check_skipped`

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.split) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Index into the split (N,) int64, and images (N, 3, H, W) uint8; N >= 1.

        Raises:
            InputError: a bad image, or images of unequal size after the transform.
        """
        return self.from_row(0)

    def from_row(self, row: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The same without the first `row` images of the split; the next begins a batch."""
        starts = range(row, len(self.split), self.batch_size)
        indices = [
            torch.arange(start, min(start + self.batch_size, len(self.split))) for start in starts
        ]
        batches = (
            self._from_pixels(indices) if self.split.pixels is not None else self._decoded(indices)
        )
        first: tuple[str, tuple[int, int]] | None = None
        for index, images in batches:
            name, size = self.split.ids[int(index[0])], (images.shape[-2], images.shape[-1])
            first = first or (name, size)
            if size != first[1]:
                raise unequal_sizes(*first, name, size)
            yield index, images

    def embedded(self, embed: Callable[[Tensor], Tensor], row: int = 0) -> Iterator[EmbeddedBatch]:
        """What `embed` makes of each batch from image `row` on, on the CPU; see `from_row`."""
        for index, images in self.from_row(row):
            yield index, embed(images).float().cpu(), (images.shape[-2], images.shape[-1])

    def showing(self, split: ImageSplit, images: EvalImages) -> ImageBatches:
        """Batches of other images, read in the same way and as many at a time."""
        return ImageBatches(
            split=split,
            images=images,
            batch_size=self.batch_size,
            on_bad_image=self.on_bad_image,
            max_bad=self.max_bad,
        )

    def check_skipped(self, read: Sequence[str]) -> None:
        """Refuse a split of which too few images, by their ids, could be read.

        Raises:
            InputError: more than the share `max_bad` is missing.
        """
        if len(read) < len(self.split):
            there = set(read)
            missing = [printable(name) for name in self.split.ids if name not in there]
            check_bad_images(missing, len(self.split), self.max_bad)

    def one_size(self) -> tuple[int, int]:
        """Height and width of the images, from the first that can be read; all are alike."""
        _, images = next(iter(replace(self, batch_size=1)))
        return images.shape[-2], images.shape[-1]

    def select(self, indices: Tensor) -> ImageBatches:
        """Batches of a part of the split, (K,) int64, in the order given."""
        return replace(self, split=self.split.select(indices))

    def _from_pixels(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        pixels = self.split.pixels
        assert pixels is not None
        for index in indices:
            yield index, self.images.apply(pixels[index])

    def _decoded(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        pool = serial_threads(reading_threads())
        waiting: deque[tuple[Tensor, list[Future[Tensor | None]]]] = deque()
        try:
            for index in indices:
                waiting.append((index, [pool.submit(self._read, i) for i in index.tolist()]))
                if len(waiting) > 1:  # one batch is decoded while the caller works on another
                    yield from self._gather(*waiting.popleft())
            while waiting:
                yield from self._gather(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _read(self, index: int) -> Tensor | None:
        try:
            image = self.split.read(index)
        except BadImageError:
            if self.on_bad_image == "error":
                raise
            return None
        try:
            return self.images.apply(image[None])[0]
        except BadImageError as error:
            if self.on_bad_image == "skip":
                return None
            raise BadImageError(f"{self.split.ids[index]}: {error}") from error
        except InputError as error:
            raise InputError(f"{self.split.ids[index]}: {error}") from error

    def _gather(
        self, index: Tensor, futures: list[Future[Tensor | None]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        images = [future.result() for future in futures]
        kept = [
            (i, image) for i, image in zip(index.tolist(), images, strict=True) if image is not None
        ]
        sizes = [(self.split.ids[i], (image.shape[-2], image.shape[-1])) for i, image in kept]
        for name, size in sizes:
            if size != sizes[0][1]:
                raise unequal_sizes(*sizes[0], name, size)
        if kept:
            yield torch.tensor([i for i, _ in kept]), torch.stack([image for _, image in kept])


def _centre_crop(images: Tensor, crop: int) -> Tensor:
    height, width = images.shape[-2:]
    if min(height, width) < crop:
        raise InputError(
            f"images.crop: {crop} does not fit into an image of {width} x {height} pixels; "
            "set images.resize as well"
        )
    # round() as torchvision: half a pixel goes to the even side
    top, left = round((height - crop) / 2), round((width - crop) / 2)
    return images[..., top : top + crop, left : left + crop]


def unequal_sizes(
    first_id: str, first: tuple[int, int], other_id: str, other: tuple[int, int]
) -> InputError:
    """The error of two images that differ in height or width."""
    sizes = [f"{width} x {height} pixels" for height, width in (first, other)]
    return InputError(
        f"images: '{first_id}' has {sizes[0]} but '{other_id}' has {sizes[1]}, expected one size; "
        "set images.resize and images.crop, e.g. images.resize=256 images.crop=224"
    )

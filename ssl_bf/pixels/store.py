"""Random access to the training pixels of a split, wherever they are kept.

The pixels are the same everywhere: `Preparation.prepare` defines them.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor

from linear_eval.datasets.decode import OR_SKIP, BadImageError
from linear_eval.system.cores import reading_threads
from linear_eval.system.serial_threads import serial_threads
from ssl_bf.pixels.packed_images import LooseImages, PackedImages

T = TypeVar("T")

log = logging.getLogger(__name__)

ReadImage = Callable[[int], Tensor]  # index in the split -> (3, H, W) uint8; raises BadImageError
SAMPLES = 32
READ_AHEAD = 4  # images per thread that are decoded before they are asked for


class ImageStore(ABC):
    """The images of a split, by their index in it.

    An image that cannot be decoded ends the run with its path, or is skipped: then the caller's
    substitute takes its place in the batch, and the numbers of the others stay as they were.

    Attributes:
        bad_images: messages of the images skipped so far, by index.
        note: where the images are, and why there; one line.
    """

    def __init__(self, count: int, note: str, *, in_threads: bool) -> None:
        """Tell how many images there are, bad ones included, and whether threads read them.

        On a single core there are none: to hand images to it one by one takes longer.
        """
        self.bad_images: dict[int, str] = {}
        self.note = note
        self._count = count
        threads = decode_threads() if in_threads else 1
        self._threads = serial_threads(threads, "read") if threads > 1 else None

    def __len__(self) -> int:
        return self._count

    @property
    @abstractmethod
    def takes_time(self) -> bool:
        """Whether reading is worth a thread of its own."""

    @abstractmethod
    def read(
        self, rows: Tensor, *, substitutes: Sequence[Iterable[int]] | None = None
    ) -> tuple[PackedImages | LooseImages, Tensor]:
        """Pixels of some images.

        Args:
            rows: (N,) int64, indices in the split.
            substitutes: for each of the N, the rows to try in turn when its image is bad and bad
                images are skipped.

        Returns:
            N images, and (N,) their indices in the split, which tell where a substitute came in.

        Raises:
            BadImageError: a bad image without a substitute.
        """

    def close(self) -> None:
        """Stop the threads."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)


class HeldImages(ImageStore):
    """Images that are decoded already: in memory, on a GPU, or mapped to a file."""

    def __init__(
        self,
        images: PackedImages,
        *,
        bad_images: Mapping[int, str],
        note: str,
        is_mapped: bool = False,
        pinned: bool = False,
    ) -> None:
        """Hand out what is at hand.

        Args:
            images: of the split, row by row.
            bad_images: message of each that is not there.
            note: see `ImageStore`.
            is_mapped: read batches in several threads, since the disk may have to be waited for;
                on a single core nothing is copied, and views read the mapped file.
            pinned: copy batches to memory that a GPU can read while it computes.
        """
        super().__init__(len(images), note, in_threads=is_mapped)
        self.images = images
        self.bad_images.update(bad_images)
        self._pinned = pinned

    @property
    def takes_time(self) -> bool:
        """When something is copied."""
        return self._pinned or self._threads is not None

    def read(
        self, rows: Tensor, *, substitutes: Sequence[Iterable[int]] | None = None
    ) -> tuple[PackedImages, Tensor]:
        """See `ImageStore`."""
        if self.bad_images:
            tries = substitutes or [()] * len(rows)
            rows = torch.tensor(list(map(self._first_good, rows.tolist(), tries)))
        images = self.images[rows]
        if self.takes_time:
            images = images.compact(pinned=self._pinned, threads=self._threads)
        return images, rows

    def _first_good(self, row: int, substitutes: Iterable[int]) -> int:
        for candidate in (row, *(() if row not in self.bad_images else substitutes)):
            if candidate not in self.bad_images:
                return candidate
        raise BadImageError(self.bad_images[row])


class DecodedImages(ImageStore):
    """Images that are decoded, in threads, whenever a batch needs them."""

    def __init__(
        self,
        read_image: ReadImage,
        count: int,
        *,
        on_bad_image: Literal["error", "skip"],
        note: str,
        pinned: bool = False,
    ) -> None:
        """Start the threads.

        Args:
            read_image: makes the training pixels of an image.
            count: how many there are.
            on_bad_image: error raises, skip leaves the image out and logs its path.
            note: see `ImageStore`.
            pinned: leave batches in memory that a GPU can read while it computes.
        """
        super().__init__(count, note, in_threads=True)
        self._read_image = read_image
        self._skip = on_bad_image == "skip"
        self._pinned = pinned

    @property
    def takes_time(self) -> bool:
        """Always."""
        return True

    def read(
        self, rows: Tensor, *, substitutes: Sequence[Iterable[int]] | None = None
    ) -> tuple[PackedImages | LooseImages, Tensor]:
        """See `ImageStore`."""
        tries = substitutes or [()] * len(rows)
        each = map if self._threads is None else self._threads.map
        found = list(each(self._decode_one_of, rows.tolist(), tries))
        images, ids = [image for image, _ in found], torch.tensor([row for _, row in found])
        return PackedImages.of(images, pinned=True) if self._pinned else LooseImages(images), ids

    def _decode_one_of(self, row: int, substitutes: Iterable[int]) -> tuple[Tensor, int]:
        """The image of a row, or the first good substitute; and where it was found."""
        image = self._decode(row)
        if image is not None:
            return image, row
        for candidate in substitutes:
            image = self._decode(candidate)
            if image is not None:
                return image, candidate
        raise BadImageError(self.bad_images[row])

    def _decode(self, row: int) -> Tensor | None:
        """Pixels of an image, or None for a bad one where these are skipped."""
        if row in self.bad_images:
            return None
        try:
            return self._read_image(row)
        except BadImageError as error:
            if not self._skip:
                raise
            self.bad_images[row] = str(error).removesuffix(OR_SKIP)
            log.warning("skipped image %d: %s", len(self.bad_images), self.bad_images[row])
            return None


def decode_in_order(
    read_image: Callable[[int], T], rows: Sequence[int], *, on_bad_image: Literal["error", "skip"]
) -> Iterator[T | str]:
    """What `read_image` makes of each row in turn, read ahead in threads.

    Returns:
        For each row what was read, or the message of a bad image where these are skipped.

    Raises:
        BadImageError: a bad image where these are not skipped.
    """

    def read(row: int) -> T | str:
        try:
            return read_image(row)
        except BadImageError as error:
            if on_bad_image == "error":
                raise
            log.warning("skipped: %s", str(error).removesuffix(OR_SKIP))
            return str(error)

    ahead = READ_AHEAD * decode_threads()
    threads = serial_threads(decode_threads(), "decode")
    try:
        futures = deque(threads.submit(read, row) for row in rows[:ahead])
        for coming in range(ahead, ahead + len(rows)):
            yield futures.popleft().result()
            if coming < len(rows):
                futures.append(threads.submit(read, rows[coming]))
    finally:
        threads.shutdown(cancel_futures=True)


def decode_threads() -> int:
    """One per core that this process may use."""
    return reading_threads()


def sample_rows(count: int) -> list[int]:
    """A few rows, evenly spread: enough to estimate what all images take."""
    return sorted({row * count // SAMPLES for row in range(SAMPLES)}) if count else []

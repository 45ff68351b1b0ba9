"""Training images as uint8 pixels: decoded once into memory where that fits, else at every use."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decode import BadImageError
from linear_eval.distributed import is_main

log = logging.getLogger(__name__)

MIB = 1024 * 1024
READ_AHEAD = 4  # images per thread that are decoded before they are asked for


class ImageStore:
    """Random access to the pixels of a split.

    Images of one size are decoded at the start when they fit the memory budget; otherwise each
    is decoded, in threads, whenever a batch needs it. An image that cannot be decoded ends the
    run with its path, or is skipped: decoded at the start, it never enters the index; decoded at
    use, the caller's substitute takes its place in the batch.

    Attributes:
        ids: (M,) int64, the index in the split of every image that can be asked for. A skipped
            image leaves the numbers of the others, and so their views, as they were.
        pixels: (M, 3, H, W) uint8 when in memory, else None.
        bad_images: path messages of the images skipped so far.
    """

    def __init__(
        self, split: ImageSplit, *, on_bad_image: Literal["error", "skip"], memory_mib: int
    ) -> None:
        """Open the split, decoding it when it fits.

        Args:
            split: the images; those without class folder or label serve as well.
            on_bad_image: error raises, skip leaves the image out and logs its path.
            memory_mib: budget for decoded images; pixels that the split holds already are free.

        Raises:
            BadImageError: an image cannot be decoded and `on_bad_image` is error.
        """
        self._split = split
        self._skip = on_bad_image == "skip"
        self._threads = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "decode")
        self.bad_images: dict[int, str] = {}
        self.ids = torch.arange(len(split))
        self.pixels = split.pixels
        if self.pixels is None and len(split):
            self._decode_all(memory_mib * MIB)

    def __len__(self) -> int:
        return len(self.ids)

    def read(
        self, places: Tensor, *, substitutes: Sequence[Iterable[int]] | None = None
    ) -> tuple[Tensor | list[Tensor], Tensor]:
        """Pixels of some images.

        Args:
            places: (N,) int64, places in `ids`.
            substitutes: for each of the N, the places to try in turn when its image is bad and
                bad images are skipped.

        Returns:
            (N, 3, H, W) uint8 when the images share a size, else N tensors (3, H_i, W_i); and
            (N,) their indices in the split, which tell where a substitute came in.

        Raises:
            BadImageError: a bad image without a substitute.
        """
        if self.pixels is not None:
            return self.pixels[places], self.ids[places]
        tries = substitutes or [()] * len(places)
        decoded = list(self._threads.map(self._decode_one_of, places.tolist(), tries))
        images = [image for image, _ in decoded]
        ids = self.ids[[place for _, place in decoded]]
        one_size = len({image.shape for image in images}) == 1
        return (torch.stack(images) if one_size else images), ids

    def close(self) -> None:
        """Stop the decoding threads."""
        self._threads.shutdown(cancel_futures=True)

    def _decode_all(self, budget: int) -> None:
        """Fill `pixels`, unless the images differ in size or exceed the budget."""
        good: list[int] = []
        pixels: Tensor | None = None
        for index, image in self._decode_in_order():
            if image is None:
                continue
            if pixels is None:
                needed = image.numel() * len(self._split)
                if needed > budget:
                    log.info(
                        "images: decoded at every use; in memory they take %d MiB of %d allowed",
                        needed // MIB + 1,
                        budget // MIB,
                    )
                    return
                pixels = torch.empty((len(self._split), *image.shape), dtype=torch.uint8)
            if image.shape != pixels.shape[1:]:
                log.info("images: decoded at every use; they differ in size")
                return
            pixels[len(good)] = image
            good.append(index)
        self.ids = torch.tensor(good, dtype=torch.int64)
        self.pixels = None if pixels is None else pixels[: len(good)]
        log.info("images: %d in memory, %d bad ones skipped", len(good), len(self.bad_images))

    def _decode_in_order(self) -> Iterator[tuple[int, Tensor | None]]:
        """(index, pixels) of the whole split, decoded ahead in threads; None for a skipped one."""
        total = len(self._split)
        ahead = READ_AHEAD * (os.cpu_count() or 1)
        futures = {i: self._threads.submit(self._decode, i) for i in range(min(ahead, total))}
        try:
            # disable=None: only on a terminal
            quiet = None if is_main() else True
            for index in tqdm(range(total), "decoding", unit="image", disable=quiet, leave=False):
                yield index, futures.pop(index).result()
                if index + ahead < total:
                    futures[index + ahead] = self._threads.submit(self._decode, index + ahead)
        finally:
            for future in futures.values():
                future.cancel()

    def _decode_one_of(self, place: int, substitutes: Iterable[int]) -> tuple[Tensor, int]:
        """The image at a place, or the first good substitute; and where it was found."""
        for candidate in (place, *substitutes):
            image = self._decode(int(self.ids[candidate]))
            if image is not None:
                return image, candidate
        raise BadImageError(self.bad_images[int(self.ids[place])])

    def _decode(self, index: int) -> Tensor | None:
        """Pixels of an image of the split, or None for a bad one where these are skipped."""
        if index in self.bad_images:
            return None
        try:
            return self._split.read(index)
        except BadImageError as error:
            if not self._skip:
                raise
            self.bad_images[index] = str(error)
            log.warning("skipped image %d: %s", len(self.bad_images), error)
            return None

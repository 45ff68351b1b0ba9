"""Images that several backbones look at, decoded once where they fit into memory.

Shapes: N images of a batch, M images of a split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from linear_eval.datasets.dataset import MemoryReader
from linear_eval.datasets.decode import BadImageError
from linear_eval.images.batches import EvalImages, ImageBatches

if TYPE_CHECKING:
    from torch import Tensor

IN_MEMORY_BYTES = 2**30


@dataclass(frozen=True, eq=False, kw_only=True)
class HeldBatches(ImageBatches):
    """Batches that are held while they are first decoded, if all of them fit `max_bytes`.

    Several backbones then look at the same images, and only the first one waits for the decoder.
    Nothing is decoded before the first look.
    """

    max_bytes: int = IN_MEMORY_BYTES
    _held: list[ImageBatches] = field(default_factory=list, init=False)  # of one, once complete

    def from_row(self, row: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `ImageBatches`."""
        if self._held or row:
            yield from self._source().from_row(row)
            return
        pixels: Tensor | None = None
        kept: list[Tensor] = []
        for index, images in self._source():
            if not kept and len(self.split) * images[0].numel() <= self.max_bytes:
                pixels = images.new_zeros(len(self.split), *images.shape[1:])
            kept.append(index)
            if pixels is not None:
                pixels[index] = images
            yield index, images
        if pixels is not None:
            self._held.append(self._from_memory(pixels, set(torch.cat(kept).tolist())))

    def select(self, indices: Tensor) -> ImageBatches:
        """See `ImageBatches`."""
        return self._source().select(indices)

    def _source(self) -> ImageBatches:
        if self._held:
            return self._held[0]
        return self.showing(self.split, self.images)

    def _from_memory(self, pixels: Tensor, readable: set[int]) -> ImageBatches:
        if len(readable) == len(self.split):
            split = replace(self.split, pixels=pixels, read=MemoryReader(pixels))
        else:  # image by image, so that every image keeps its place and its company
            split = replace(self.split, read=_ReadableOnly(MemoryReader(pixels), readable))
        return replace(self._source(), split=split, images=EvalImages())


@dataclass(frozen=True, eq=False)
class _ReadableOnly:
    read: Callable[[int], Tensor]
    readable: set[int]

    def __call__(self, index: int) -> Tensor:
        if index not in self.readable:
            raise BadImageError("could not be read before")
        return self.read(index)


def hold_in_memory(batches: ImageBatches, max_bytes: int = IN_MEMORY_BYTES) -> ImageBatches:
    """The same batches, held from the first look on if they fit `max_bytes`: `HeldBatches`."""
    if batches.split.pixels is not None:
        return batches
    return HeldBatches(
        split=batches.split,
        images=batches.images,
        batch_size=batches.batch_size,
        on_bad_image=batches.on_bad_image,
        max_bad=batches.max_bad,
        max_bytes=max_bytes,
    )

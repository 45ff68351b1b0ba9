"""What a method is given at each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ssl_bf.relations.surroundings import Samples


@dataclass(frozen=True, eq=False)
class Batch:
    """Views of the same images; N images on this device, S x S pixels.

    Attributes:
        views: each (N, 3, S, S) float32, normalised; row i of all of them shows the same image.
        image_ids: (N,) int64, the index of each image in the split.
        labels: (N,) int64, or None unless the method needs them.
    """

    views: tuple[Tensor, ...]
    image_ids: Tensor
    labels: Tensor | None = None

    @property
    def samples(self) -> Samples:
        """What a relation may know of the rows."""
        return Samples(self.image_ids, self.labels)

    def tensors(self) -> list[Tensor]:
        """All that is there, in a fixed order."""
        return [*self.views, self.image_ids, *([] if self.labels is None else [self.labels])]

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same with every tensor changed."""
        return Batch(tuple(map(change, self.views)), *self.samples.map(change))

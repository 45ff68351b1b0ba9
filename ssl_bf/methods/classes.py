"""What a method is told about the classes of its training images, before any batch.

Shapes: C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Classes:
    """The classes of the labelled images; none where there are no labels.

    Attributes:
        names: C, in the order of the labels; a class may have no image.
        counts: C, how many images of each are trained on.
    """

    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()

    @classmethod
    def of(cls, names: tuple[str, ...], labels: Tensor) -> Classes:
        """Count (M,) int64 labels; those below 0 belong to no class."""
        counts = labels[labels >= 0].bincount(minlength=len(names))
        assert len(counts) == len(names), (len(counts), len(names))
        return cls(tuple(names), tuple(counts.tolist()))

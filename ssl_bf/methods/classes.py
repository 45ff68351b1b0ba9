"""What a method is told about the classes of its training images, before any batch.

Shapes: C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from linear_eval.system.errors import InputError
from linear_eval.system.printable import one_line


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

    @classmethod
    def unnamed(cls, counts: Sequence[int]) -> Classes:
        """Classes whose names are their numbers."""
        return cls(tuple(map(str, range(len(counts)))), tuple(counts))

    def require_images(self) -> None:
        """Refuse a class that nothing is trained on.

        Raises:
            InputError: naming the first of them.
        """
        both = zip(self.names, self.counts, strict=True)
        without = [one_line(name) for name, count in both if not count]
        if without:
            more = f" and {len(without) - 3} more" if len(without) > 3 else ""
            raise InputError(
                f"data: {len(without)} of {len(self.names)} classes have no training image "
                f"({', '.join(without[:3])}{more}), expected at least one of each; add some, or "
                "leave these classes out"
            )

"""What every evaluator returns.

Shapes: M test images.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Numbers, and what they are made of, image by image.

    Attributes:
        metrics: in percent, by keys such as `knn/k=20/top1`.
        scores: of the metrics that are means over test images: (M,) float64 in [0, 1] under the
            metric's key, NaN where an image was not asked; 100 times the mean of the others is the
            metric.
        predictions: the predicted class of every test image (M,) int64, by keys such as `knn/k=20`.
        notes: facts and warnings.
    """

    metrics: dict[str, float]
    scores: dict[str, Tensor] = field(default_factory=dict)
    predictions: dict[str, Tensor] = field(default_factory=dict)
    notes: dict[str, float | str] = field(default_factory=dict)

    def prefixed(self, prefix: str) -> Evaluation:
        """The same with all keys under a prefix."""

        def under(values: dict[str, T]) -> dict[str, T]:
            return {prefix + key: value for key, value in values.items()}

        return Evaluation(
            metrics=under(self.metrics),
            scores=under(self.scores),
            predictions=under(self.predictions),
            notes=under(self.notes),
        )


def note_text(key: str, value: float | str) -> str:
    """The value of a note as people read it: percent with one decimal, others with four digits."""
    if isinstance(value, str | int):
        return str(value)
    return f"{value:.1f}" if key.endswith("top1") else f"{value:.4g}"

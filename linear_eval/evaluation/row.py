"""One contestant with its metrics, scores, predictions and notes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from linear_eval.evaluation.contestants import Contestant
from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.results.intervals import Interval

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Row:
    """One contestant with its results.

    Attributes:
        contestant: who.
        metrics: in percent.
        scores: per test image, of the metrics that are means over them; see `Evaluation`.
        predictions: per test image; likewise.
        intervals: 95 %, in percent, of the metrics that are means over test images.
        test_ids: names of the test images that could be read.
        test_labels: their classes.
        by_class: metrics whose interval resamples classes instead of images.
        notes: facts and warnings of the evaluators, such as the probe's chosen learning rate.
        seconds: per stage.
        num_images: per part of the data, those that could not be read not counted.
        read_from: folder of the feature store per part of the data that was read from one.
    """

    contestant: Contestant
    metrics: dict[str, float] = field(default_factory=dict)
    scores: dict[str, Tensor] = field(default_factory=dict)
    predictions: dict[str, Tensor] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)
    test_ids: tuple[str, ...] = ()
    test_labels: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    by_class: frozenset[str] = frozenset()
    notes: dict[str, float | str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    num_images: dict[str, int] = field(default_factory=dict)
    read_from: dict[str, str] = field(default_factory=dict)

    def add(self, found: Evaluation) -> None:
        """Add the results of an evaluator."""
        self.metrics.update(found.metrics)
        self.scores.update(found.scores)
        self.predictions.update(found.predictions)
        self.notes.update(found.notes)

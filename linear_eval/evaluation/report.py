"""What a finished evaluation says: the table on the screen, and `results.json`."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from linear_eval import __version__
from linear_eval.evaluation.contestants import Contestant
from linear_eval.evaluation.notes import shortened
from linear_eval.evaluation.protocols import metrics_of
from linear_eval.evaluation.text_table import aligned
from linear_eval.evaluators import knn
from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.headlines import columns_of
from linear_eval.results.intervals import Interval, format_range
from linear_eval.system.atomic_file import atomic_file
from linear_eval.system.printable import one_line

if TYPE_CHECKING:
    from torch import Tensor

_RANGES = "  95 %, test sampling"
_PACKAGES = ("torch", "torchvision", "numpy", "safetensors", "faiss-gpu", "faiss-cpu")


@dataclass(frozen=True, eq=False)
class Row:
    """One contestant with what came out.

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
        """Put down what an evaluator found."""
        self.metrics.update(found.metrics)
        self.scores.update(found.scores)
        self.predictions.update(found.predictions)
        self.notes.update(found.notes)


def format_report(
    rows: list[Row], *, num_classes: int, notes: list[str], verbose: bool = False
) -> str:
    """The table, the backbone's gain or cost against every other file, and the notes.

    Args:
        rows: in the order of the table, the judged backbone last.
        num_classes: decides whether top-5 is worth a column.
        notes: the most important first.
        verbose: whether all of the notes are wanted.
    """
    columns = columns_of(metrics_of("ours", rows[-1].metrics), num_classes)
    said = [*_differences(rows), *(f"note: {one_line(note)}" for note in notes)]
    return "\n".join([*_table(rows, columns), *shortened(said, verbose=verbose)])


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write `results.json`, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    text = json.dumps(results, indent=2, allow_nan=False) + "\n"
    with atomic_file(path) as file:
        file.write(text.encode())


def versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    found = {"linear_eval": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # one of the two faiss, or neither: it is optional
    return found


def _table(rows: list[Row], columns: dict[str, str]) -> list[str]:
    if not columns:
        return []  # all that was computed has a table of its own
    table = [
        [one_line(row.contestant.title), *(f"{row.metrics[key]:5.1f}" for key in columns.values())]
        for row in rows
    ]
    main = rows[-1]
    if main.intervals:
        ranges = (format_range(main.intervals.get(key)) for key in columns.values())
        table.append([_RANGES, *ranges])
    return aligned(["percent", *columns], table)


def _differences(rows: list[Row]) -> list[str]:
    """What the backbone gains or costs against every other file, in points of k-NN."""
    *others, main = rows
    found = columns_of(metrics_of("ours", main.metrics), 0, [knn.EVALUATOR.headline])
    if not found or not main.contestant.is_file:
        return []
    [(heading, key)] = found.items()
    title = one_line(main.contestant.title)
    return [
        f"'{title}' {_verdict(main.metrics[key] - other.metrics[key])} {heading} "
        f"against '{one_line(other.contestant.title)}' here (one run each)"
        for other in others
        if other.contestant.is_file
    ]


def _verdict(points: float) -> str:
    points = round(points, 1)
    if points == 0:
        return "neither gains nor costs"
    return f"{'costs' if points < 0 else 'gains'} {abs(points):.1f} points of"

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
from linear_eval.atomic_file import atomic_file
from linear_eval.comparison.intervals import Interval, format_margin
from linear_eval.contestants import Contestant
from linear_eval.errors import one_line
from linear_eval.protocols import HEADLINE_K

if TYPE_CHECKING:
    from torch import Tensor

_MIN_CLASSES_FOR_TOP5 = 11  # among ten classes top-5 says little
_MARGINS = "  95 %, test sampling"
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


def format_report(rows: list[Row], *, num_classes: int, notes: list[str]) -> str:
    """The table, the backbone's gain or cost against every other file, and the notes.

    Args:
        rows: in the order of the table, the judged backbone last.
        num_classes: decides whether top-5 is worth a column.
        notes: one line each.
    """
    columns = _columns(rows[-1].metrics, num_classes)
    lines = _table(rows, columns) + _differences(rows, columns)
    return "\n".join([*lines, *(f"note: {one_line(note)}" for note in notes)])


def headline_knn(metrics: dict[str, float]) -> str | None:
    """Key of the k-NN number that the table shows: k = 20 if it was run, else the first."""
    keys = [key for key in metrics if key.startswith("knn/")]
    headline = f"knn/k={HEADLINE_K}/top1"
    return headline if headline in keys else next(iter(keys), None)


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


def _columns(metrics: dict[str, float], num_classes: int) -> dict[str, str]:
    """Heading -> metric key, for the metrics that were computed."""
    columns = {}
    if knn := headline_knn(metrics):
        columns[f"k-NN (k={knn.split('=')[1].split('/')[0]})"] = knn
    columns["linear top-1"] = "linear_probe/top1"
    if num_classes >= _MIN_CLASSES_FOR_TOP5:
        columns["linear top-5"] = "linear_probe/top5"
    columns["recall@1"] = "retrieval/recall@1"
    columns["mAP"] = "retrieval/map"
    columns["mAP@R"] = "retrieval/map@r"
    for difficulty in ("easy", "medium", "hard"):
        columns[f"mAP {difficulty}"] = f"retrieval/{difficulty}/map"
    return {heading: key for heading, key in columns.items() if key in metrics}


def _table(rows: list[Row], columns: dict[str, str]) -> list[str]:
    if not columns:
        return []  # published protocols only, which have a table of their own
    titles = [one_line(row.contestant.title) for row in rows]
    intervals = rows[-1].intervals
    indent = max(len(_MARGINS if intervals else "percent"), *(len(title) for title in titles))
    widths = {heading: max(len(heading), len("100.0")) for heading in columns}
    headings = [heading.rjust(width) for heading, width in widths.items()]
    lines = ["  ".join(["percent".ljust(indent), *headings])]
    for title, row in zip(titles, rows, strict=True):
        cells = [f"{row.metrics[key]:{widths[heading]}.1f}" for heading, key in columns.items()]
        lines.append("  ".join([title.ljust(indent), *cells]))
    if intervals:
        margins = [
            format_margin(rows[-1].metrics[key], intervals.get(key)).rjust(widths[heading])
            for heading, key in columns.items()
        ]
        lines.append("  ".join([_MARGINS.ljust(indent), *margins]))
    return lines


def _differences(rows: list[Row], columns: dict[str, str]) -> list[str]:
    """What the backbone gains or costs against every other file, in points of k-NN."""
    *others, main = rows
    knn = headline_knn(main.metrics)
    if knn is None or not main.contestant.is_file:
        return []
    heading = next(heading for heading, key in columns.items() if key == knn)
    title = one_line(main.contestant.title)
    return [
        f"'{title}' {_verdict(main.metrics[knn] - other.metrics[knn])} {heading} "
        f"against '{one_line(other.contestant.title)}' here (one run each)"
        for other in others
        if other.contestant.is_file
    ]


def _verdict(points: float) -> str:
    points = round(points, 1)
    if points == 0:
        return "neither gains nor costs"
    return f"{'costs' if points < 0 else 'gains'} {abs(points):.1f} points of"

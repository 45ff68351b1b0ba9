"""The curves of training: what was logged, with a sentence on how to read it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from linear_eval.charts.axis import linear_axis, tight_axis
from linear_eval.charts.line_chart import Line, LineChart, line_chart
from linear_eval.report.run_files import Run

Point = tuple[float, float]
_STREAM_0, _STREAM_1 = "/stream_0", "/stream_1"


@dataclass(frozen=True)
class Subject:
    """A curve that is drawn: its name in metrics.jsonl, its title, and how to read it."""

    metric: str
    title: str
    note: str


SUBJECTS = (
    Subject("loss", "Loss", ""),
    Subject("monitor/knn_top1", "k-NN monitor, %", "On held-out train images; no test image."),
    Subject("learning_rate", "Learning rate", ""),
    Subject(
        "feature_std",
        "feature_std",
        "About 1 while projections spread over the sphere; towards 0 they collapse.",
    ),
    Subject(
        "context_gap",
        "context_gap",
        "Similarity to other keys of the batch less that to queued keys: far above 0, a stream "
        "recognises its batch instead of the image.",
    ),
)
_QUEUE_NOTE = (
    "MoCo-v2: the queue starts with random directions, which any key is easily told from. While "
    "real keys replace them{shaded} the task gets harder and the loss rises; that is no "
    "divergence."
)


def curve_charts(
    runs: Sequence[Run], names: Sequence[str], colours: Sequence[int]
) -> list[LineChart]:
    """One chart for each subject that any run logged, all runs on it.

    Args:
        runs: in the order of drawing.
        names: on the page, as many.
        colours: numbers, as many.
    """
    charts = []
    for subject in SUBJECTS:
        lines = lines_of(runs, names, colours, subject.metric)
        values = [y for line in lines for _, y in line.points if math.isfinite(y)]
        if not values:
            continue
        epochs = [x for line in lines for x, _ in line.points if math.isfinite(x)]
        is_loss = subject.metric == "loss"
        fill = _queue_fill(runs) if is_loss else None
        charts.append(
            line_chart(
                subject.title,
                lines,
                tight_axis(max(epochs, default=0.0) or 1.0),
                linear_axis(values if is_loss else [0.0, *values]),
                x_label="epoch",
                note=_loss_note(runs, fill) if is_loss else subject.note,
                marked=None if fill is None else (0.0, fill[1]),
            )
        )
    return charts


def lines_of(
    runs: Sequence[Run], names: Sequence[str], colours: Sequence[int], metric: str
) -> list[Line]:
    """One line, or one per stream, of every run that logged the metric."""
    return [
        line
        for run, name, colour in zip(runs, names, colours, strict=True)
        for line in _lines(run, name, colour, metric)
    ]


def has_related(runs: Sequence[Run]) -> bool:
    """Whether any run logged a second stream."""
    return any(key.endswith(_STREAM_1) for run in runs for line in run.lines for key in line)


def series_of(run: Run) -> dict[str, list[tuple[int, float, float]]]:
    """Every logged number: step, epoch, value; for files."""
    found: dict[str, list[tuple[int, float, float]]] = {}
    for line in run.lines:
        for name in line.keys() - {"step", "epoch"}:
            point = (int(line["step"]), line.get("epoch", math.nan), line[name])
            found.setdefault(name, []).append(point)
    return dict(sorted(found.items()))


def _lines(run: Run, name: str, colour: int, metric: str) -> list[Line]:
    plain = _points(run, metric) or _points(run, metric + _STREAM_0)
    related = _points(run, metric + _STREAM_1)
    dots = len(plain) <= 12
    found = [Line(name, plain, colour, dots=dots)] if plain else []
    if related:
        found.append(Line(f"{name}, related stream", related, colour, is_dashed=True, dots=dots))
    return found


def _points(run: Run, metric: str) -> list[Point]:
    return [(line["epoch"], line[metric]) for line in run.lines if {"epoch", metric} <= line.keys()]


def _loss_note(runs: Sequence[Run], fill: tuple[int, float] | None) -> str:
    if not any("queue_size" in (run.config.get("method") or {}) for run in runs):
        return ""
    return _QUEUE_NOTE.format(shaded="" if fill is None else f" (shaded: {fill[0]} steps)")


def _queue_fill(runs: Sequence[Run]) -> tuple[int, float] | None:
    """Steps and epochs until the slowest queue holds no random direction; None where unknown."""
    fills = []
    for run in runs:
        method, batch = run.config.get("method") or {}, run.config.get("batch_size")
        if (
            "queue_size" not in method
            or not isinstance(batch, int)
            or not batch
            or not run.lines
            or not run.lines[-1]["step"]
        ):
            continue
        if method.get("queue_streams") == "both":
            return None  # filled by as many streams as the relation has
        views = 2 if method.get("symmetric") else 1
        steps = math.ceil(method["queue_size"] / (batch * views))
        fills.append((steps, steps * run.lines[-1]["epoch"] / run.lines[-1]["step"]))
    return max(fills) if fills else None

"""What the page says first: a sentence for who reads no further, and what it rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from linear_eval.comparison.compare_models import ModelDifference, model_differences, pair_images
from linear_eval.report.contestants import Contestants, Shown
from linear_eval.report.run_files import Run
from linear_eval.report.tables import Column, Table
from linear_eval.results.intervals import Interval
from linear_eval.results.study_file import Study
from linear_eval.results.worth_file import Worth

_MINUS = "\N{MINUS SIGN}"
_OF_TEST_SAMPLING = (
    "The noise is that of drawing these test images. Another pretraining seed may move a difference"
    " further; `ssl-bf ablate` measures that."
)


@dataclass(frozen=True)
class Verdict:
    """`headline`, and the sentences below it."""

    headline: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Against:
    """The judged one less another contestant, in each column; None where it has no such number."""

    other: Shown
    differences: tuple[ModelDifference | None, ...]


def differences_from(main: Shown, table: Table) -> list[Against]:
    """`main` less everyone else of its table, paired by image where both have answers."""
    metrics = [column.metric for column in table.columns]
    found = []
    for row in table.rows:
        other = row.shown
        if other is main:
            continue
        if main.answers and other.answers and set(main.answers.ids) & set(other.answers.ids):
            paired = pair_images(other.answers, main.answers, common_images=True)
            own = {key: main.metrics[key] for key in metrics if key in main.metrics}
            every = {each.metric: each for each in model_differences(paired, other.metrics, own)}
            found.append(Against(other, tuple(every.get(metric) for metric in metrics)))
    return found


def verdict_of(
    *,
    contestants: Contestants | None,
    table: Table | None,
    against: Sequence[Against],
    runs: Sequence[Run],
    studies: Sequence[Study],
    worths: Sequence[Worth],
) -> Verdict:
    """The first that there is: a verdict of `worth`, a study's contrasts, results, a run's end."""
    if worths:
        first = worths[-1]
        ends = first.interval
        said = () if ends is None else (f"95 % interval {range_text(ends)} points.",)
        return Verdict(first.verdict, (*said, *first.notes))
    if studies and studies[-1].contrasts:
        sentences = [f"{each.name}: {each.sentence}" for each in studies[-1].contrasts]
        return Verdict(sentences[0], tuple(sentences[1:]))
    if contestants is not None and table is not None and table.columns:
        return _of_results(contestants, table, against)
    return _of_runs(runs)


def points_text(value: float) -> str:
    """Such as "+1.2" or "-0.3" with a true minus."""
    return f"{value:+.1f}".replace("-", _MINUS)


def range_text(interval: Interval) -> str:
    """Such as "-0.3 to +1.1"."""
    return f"{points_text(interval[0])} to {points_text(interval[1])}"


def _of_results(contestants: Contestants, table: Table, against: Sequence[Against]) -> Verdict:
    main, column = contestants.main, _column_of(contestants.main, table)
    value = main.metrics[column.metric]
    interval = main.intervals.get(column.metric)
    images = main.results.data.get("test_images")
    on = f" on {images:,} test images" if isinstance(images, int) else ""
    ends = "" if interval is None else f" (95 % interval {interval[0]:.1f} to {interval[1]:.1f})"
    own = f"{main.name}: {column.heading} {value:.1f} %{ends}{on}."
    place = [each.metric for each in table.columns].index(column.metric)
    pairs = [(each.other, each.differences[place]) for each in against]
    sentences = [
        _difference(other, column, found) for other, found in pairs[::-1] if found is not None
    ]
    rival = next((each for each in against if each.other is contestants.rival), None)
    if rival is None or (found := rival.differences[place]) is None:
        return Verdict(own, (*sentences, *([_OF_TEST_SAMPLING] if sentences else [])))
    head = _difference(rival.other, column, found)
    rest = [each for each in sentences if each != head]
    return Verdict(f"{main.name}: {head}", (own, *rest, _OF_TEST_SAMPLING))


def _column_of(main: Shown, table: Table) -> Column:
    return next(each for each in table.columns if each.metric in main.metrics)


def _difference(other: Shown, column: Column, found: ModelDifference) -> str:
    start = f"{points_text(found.difference)} points of {column.heading} against {other.name}"
    if found.interval is None:
        return f"{start}."
    low, high = found.interval
    meaning = ("inside" if low <= 0 <= high else "beyond") + " the noise of test sampling"
    return f"{start}, 95 % interval {range_text((low, high))}: {meaning}."


def _of_runs(runs: Sequence[Run]) -> Verdict:
    sentences = [f"{run.path.name}: {_end_of(run)}" for run in runs]
    return Verdict(
        sentences[0] if len(sentences) == 1 else f"{len(sentences)} runs, not judged yet.",
        (
            *(sentences if len(sentences) > 1 else ()),
            "No test image was looked at. `linear-eval run` judges the backbone.",
        ),
    )


def _end_of(run: Run) -> str:
    state, step = run.status.get("state", "unknown state"), run.status.get("step")
    parts = [str(state) if step is None else f"{state} at step {step:,}"]
    for metric, text in (("loss", "loss {:.3f}"), ("monitor/knn_top1", "k-NN monitor {:.1f} %")):
        values = [line[metric] for line in run.lines if metric in line]
        if values and math.isfinite(values[-1]):
            parts.append(text.format(values[-1]))
    return ", ".join(parts) + "."

"""Right and wrong, image by image: accuracy by class, confused pairs, and where two models differ.

Shapes: M test images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from linear_eval.charts.axis import Axis
from linear_eval.charts.interval_rows import Pair, percent
from linear_eval.comparison.mcnemar import mcnemar_p
from linear_eval.evaluators.headlines import columns_of
from linear_eval.report.contestants import Shown
from linear_eval.results.intervals import Array, wilson_interval
from linear_eval.results.per_image import PerImage

MAX_CLASSES = 40  # beyond, the best and the worst half of so many are shown
MAX_PAIRS = 8
PICTURES_OF_PAIR = 6
PICTURES_OF_CELL = 12
_PREFERRED = ("knn/k=20", "linear_probe", "logistic_probe", "fine_tune")
_PERCENT = Axis(0.0, 100.0, ())


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """A class: `value` percent right of `count` images; `others` by colour; places in percent."""

    name: str
    count: int
    value: float
    interval: Pair
    others: tuple[tuple[str, int, float], ...]


@dataclass(frozen=True, kw_only=True)
class ConfusedPair:
    """Images of class `truth` that were called `said`: how many of how many, and some rows."""

    truth: str
    said: str
    count: int
    total: int
    rows: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """The McNemar table of two contestants.

    Attributes:
        a: name of the one.
        b: name of the other.
        predictor: that answered.
        both: rows of test images that both got right.
        only_a: that only `a` got right.
        only_b: that only `b` got right.
        neither: that none did.
        p: exact, two-sided; None where the images are not independent.
    """

    a: Shown
    b: Shown
    predictor: str
    both: tuple[str, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    neither: tuple[str, ...]
    p: float | None


def predictor_of(answers: PerImage) -> str | None:
    """Whose answers are shown: k-NN, as the neighbours are, or a probe, or the first there is."""
    found = list(answers.predictions[answers.judged])
    return next((name for name in _PREFERRED if name in found), found[0] if found else None)


def metric_name(metric: str) -> str:
    """As the tables call it, where they have a column for it."""
    return next(iter(columns_of([metric], 0)), metric)


def class_rows(main: Shown, everyone: Sequence[Shown], predictor: str) -> list[ClassRow]:
    """Every class of test with an image, the most accurate first."""
    answers = _answers(main)
    right = _right(answers, predictor)
    others = [
        (each, _right(_answers(each), predictor))
        for each in everyone
        if each is not main
        and each.answers is not None
        and each.answers.ids == answers.ids
        and predictor in each.answers.predictions[each.answers.judged]
    ]
    rows = []
    for label in np.unique(answers.labels).tolist():
        inside = answers.labels == label
        total, hits = int(inside.sum()), int(right[inside].sum())
        low, high = wilson_interval(hits, total)
        rows.append(
            ClassRow(
                name=answers.class_names[label],
                count=total,
                value=100 * hits / total,
                interval=(percent(_PERCENT, 100 * low), percent(_PERCENT, 100 * high)),
                others=tuple(
                    (each.name, each.colour, 100 * float(own[inside].mean()))
                    for each, own in sorted(others, key=lambda pair: pair[0].colour)
                ),
            )
        )
    return sorted(rows, key=lambda row: -row.value)


def confused_pairs(main: Shown, predictor: str) -> list[ConfusedPair]:
    """The pairs of classes that most images fall to, the most frequent first; rows are of test."""
    answers = _answers(main)
    said = answers.predictions[answers.judged][predictor]
    names, size = answers.class_names, len(answers.class_names)
    wrong = said != answers.labels
    pairs, counts = np.unique(answers.labels[wrong] * size + said[wrong], return_counts=True)
    found = []
    for place in np.lexsort((pairs, -counts))[:MAX_PAIRS].tolist():
        truth, guess = divmod(int(pairs[place]), size)
        rows = np.flatnonzero((answers.labels == truth) & (said == guess))
        found.append(
            ConfusedPair(
                truth=names[truth],
                said=names[guess],
                count=len(rows),
                total=int((answers.labels == truth).sum()),
                rows=tuple(evenly(rows.tolist(), PICTURES_OF_PAIR)),
            )
        )
    return found


def disagreement(a: Shown, b: Shown, predictor: str) -> Disagreement | None:
    """Which images one of two gets right and the other not; None if they cannot be paired."""
    first, second = a.answers, b.answers
    if first is None or second is None or not set(first.ids) & set(second.ids):
        return None
    if any(predictor not in each.predictions[each.judged] for each in (first, second)):
        return None
    rows = {name: row for row, name in enumerate(second.ids)}
    names = [name for name in first.ids if name in rows]
    right_a = dict(zip(first.ids, _right(first, predictor).tolist(), strict=True))
    right_b = dict(zip(second.ids, _right(second, predictor).tolist(), strict=True))

    def cell(of_a: bool, of_b: bool) -> tuple[str, ...]:
        return tuple(name for name in names if (right_a[name], right_b[name]) == (of_a, of_b))

    only_a, only_b = cell(True, False), cell(False, True)
    by_class = first.by_class | second.by_class
    return Disagreement(
        a=a,
        b=b,
        predictor=predictor,
        both=cell(True, True),
        only_a=only_a,
        only_b=only_b,
        neither=cell(False, False),
        p=None if by_class else mcnemar_p(len(only_a), len(only_b)),
    )


def evenly(rows: Sequence[int], count: int) -> list[int]:
    """At most `count` of the rows, evenly spaced: nobody picked them."""
    if len(rows) <= count:
        return list(rows)
    return [rows[(2 * number + 1) * len(rows) // (2 * count)] for number in range(count)]


def _answers(shown: Shown) -> PerImage:
    assert shown.answers is not None, shown.name
    return shown.answers


def _right(answers: PerImage, predictor: str) -> Array:
    right: Array = answers.predictions[answers.judged][predictor] == answers.labels
    return right

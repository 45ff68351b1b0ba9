"""Two models on the same test images: differences paired by image, or by class.

Shapes: M test images that both were asked, K metrics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from linear_eval.comparison.mcnemar import mcnemar_p
from linear_eval.results.intervals import (
    RESAMPLES,
    Array,
    Interval,
    Unit,
    bootstrap_intervals,
    is_binary,
    is_per_class,
    mean_scores,
    scores_key,
)
from linear_eval.results.per_image import PerImage
from linear_eval.system.errors import InputError

INTERVAL_MEANING = "95 %, one model each, test sampling: paired bootstrap"
_FEW_CLASSES = 20


@dataclass(frozen=True, kw_only=True)
class ModelDifference:
    """One metric of two models, in percent.

    Attributes:
        metric: its key.
        a: of model A, on the images compared.
        b: of model B.
        difference: b - a.
        interval: 95 %, of the difference; None where the metric is no mean over test images.
        unit: what was resampled.
        only_a: number of images that only A got right; None unless images are right or wrong.
        only_b: likewise.
        mcnemar_p: see `mcnemar.py`; None where images are not independent.
    """

    HEADINGS: ClassVar[tuple[str, ...]] = (
        *("A", "B", "B - A", "95 % interval", "only A right", "only B right", "McNemar p"),
    )

    metric: str
    a: float
    b: float
    difference: float
    interval: Interval | None = None
    unit: Unit | None = None
    only_a: int | None = None
    only_b: int | None = None
    mcnemar_p: float | None = None

    def cells(self) -> list[str]:
        """One text for each of `HEADINGS`."""
        bounds = self.interval and f"[{self.interval[0]:+.2f}, {self.interval[1]:+.2f}]"
        counts = [None if n is None else str(n) for n in (self.only_a, self.only_b)]
        p = None if self.mcnemar_p is None else f"{self.mcnemar_p:.2g}"
        numbers = [f"{self.a:.2f}", f"{self.b:.2f}", f"{self.difference:+.2f}"]
        return numbers + [text or "-" for text in (bounds, *counts, p)]


@dataclass(frozen=True, eq=False, kw_only=True)
class PairedScores:
    """The judged backbones' scores on the images of both sides, in the order of A.

    Attributes:
        labels: (M,) int64.
        a: metric -> (M,) float64, NaN where either side was not asked.
        b: the same metrics.
        by_class: metrics whose images are not independent on either side.
        left_out: number of images that only one side has.
    """

    labels: Array
    a: dict[str, Array]
    b: dict[str, Array]
    by_class: frozenset[str]
    left_out: int


def pair_images(a: PerImage, b: PerImage, *, common_images: bool) -> PairedScores:
    """Match the images of two evaluations by their ids.

    Args:
        a: one side.
        b: the other; of the same data, but perhaps in another order.
        common_images: leave out images that only one side has.

    Raises:
        InputError: one side has images that the other lacks, and they may not be left out; or no
            image is common.
    """
    rows_of_b = {name: row for row, name in enumerate(b.ids)}
    common = [row for row, name in enumerate(a.ids) if name in rows_of_b]
    left_out = len(a.ids) + len(b.ids) - 2 * len(common)
    if not common:
        raise InputError("test images: the two sides have none in common; judge both on one split")
    if left_out and not common_images:
        name = min(set(a.ids) ^ set(b.ids))
        raise InputError(
            f"test images: {left_out} were read for one side only, such as '{name}'; mend the "
            "files and judge again, or add --common-images"
        )
    rows_a = np.array(common)
    rows_b = np.array([rows_of_b[a.ids[row]] for row in common])
    of_a, of_b = a.scores[a.judged], b.scores[b.judged]
    both = [key for key in of_a if key in of_b]
    scores_a = {key: of_a[key][rows_a] for key in both}
    scores_b = {key: of_b[key][rows_b] for key in both}
    return PairedScores(
        labels=a.labels[rows_a],
        a={key: np.where(np.isnan(scores_b[key]), np.nan, scores_a[key]) for key in both},
        b={key: np.where(np.isnan(scores_a[key]), np.nan, scores_b[key]) for key in both},
        by_class=a.by_class | b.by_class,
        left_out=left_out,
    )


def model_differences(
    paired: PairedScores,
    metrics_a: dict[str, float],
    metrics_b: dict[str, float],
    *,
    unit: Unit | None = None,
) -> list[ModelDifference]:
    """The difference in every metric that both sides have, in the order of A.

    Args:
        paired: the scores; metrics that rest on none get no interval.
        metrics_a: in percent.
        metrics_b: likewise.
        unit: what is resampled for all metrics; None: classes for `paired.by_class`, else images.
    """
    shared = [key for key in metrics_a if key in metrics_b]
    kinds: dict[tuple[Unit, bool], list[str]] = {}  # drawn once for all metrics of a kind
    for key in shared:
        if scores_key(key) in paired.a:
            default: Unit = "class" if key in paired.by_class else "image"
            kinds.setdefault((unit or default, is_per_class(key)), []).append(key)
    found = {
        key: ModelDifference(
            metric=key,
            a=metrics_a[key],
            b=metrics_b[key],
            difference=metrics_b[key] - metrics_a[key],
        )
        for key in shared
    }
    for (kind, per_class), keys in kinds.items():
        for difference in _differences(paired, keys, unit=kind, per_class=per_class):
            found[difference.metric] = difference
    return list(found.values())


def model_notes(
    paired: PairedScores, differences: list[ModelDifference], on_chance: str
) -> list[str]:
    """What the intervals cover and what not, in plain words; first what narrows them.

    Args:
        paired: what was compared.
        differences: what came out.
        on_chance: a note that comes before those on what intervals are.
    """
    notes = []
    if paired.left_out:
        notes.append(f"{paired.left_out} test images that only one side has were left out")
    if by_class := [each for each in differences if each.unit == "class"]:
        num_classes = len(np.unique(paired.labels))
        few = ", so few that the intervals are too narrow" if num_classes < _FEW_CLASSES else ""
        notes.append(
            f"classes resampled whole, all {num_classes} of them{few}: {_named(by_class)}; no "
            "McNemar p there, because images of a class are not taken to be independent"
        )
    notes += [
        on_chance,
        "one model each: says nothing about other pretraining seeds, nor about other data",
        f"intervals: {RESAMPLES} resamples of the {len(paired.labels)} test images, both models on "
        "the same ones: how far other test images would move the difference",
    ]
    if any(each.unit == "image" and "retrieval/" in each.metric for each in differences):
        notes.append(
            "retrieval: images were resampled as queries; what they search stayed as it is"
        )
    if any("low_shot/" in each.metric or "fine_tune/" in each.metric for each in differences):
        notes.append(
            "low_shot and fine_tune: an image's score is its mean over the draws of labels; other "
            "draws would move the difference as well"
        )
    if bare := [each for each in differences if each.interval is None]:
        notes.append(f"no interval, because no mean over several images or classes: {_named(bare)}")
    return notes


def _differences(
    paired: PairedScores, keys: list[str], *, unit: Unit, per_class: bool
) -> list[ModelDifference]:
    a, b = (
        np.stack([side[scores_key(key)] for key in keys], axis=1)  # (M, K)
        for side in (paired.a, paired.b)
    )
    means_a = mean_scores(a, paired.labels, per_class=per_class)
    means_b = mean_scores(b, paired.labels, per_class=per_class)
    bounds = bootstrap_intervals(b - a, paired.labels, unit=unit, per_class=per_class)
    found = []
    for column, key in enumerate(keys):
        if math.isnan(means_a[column]):
            continue  # the images left were not asked
        interval = bounds[column]
        counts: dict[str, int] = {}
        if not per_class and is_binary(a[:, column]) and is_binary(b[:, column]):
            counts["only_a"] = int((a[:, column] > b[:, column]).sum())
            counts["only_b"] = int((b[:, column] > a[:, column]).sum())
        found.append(
            ModelDifference(
                metric=key,
                a=100 * means_a[column],
                b=100 * means_b[column],
                difference=100 * (means_b[column] - means_a[column]),
                interval=None if interval is None else (100 * interval[0], 100 * interval[1]),
                unit=unit,
                **counts,
                mcnemar_p=mcnemar_p(**counts) if counts and unit == "image" else None,
            )
        )
    return found


def _named(differences: list[ModelDifference]) -> str:
    return ", ".join(each.metric for each in differences)

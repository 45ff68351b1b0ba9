"""95 % intervals of means over test images: how far another draw of test images would move them.

They speak of one model and of test sampling, not of other pretraining seeds or other data.

Shapes: M test images, K columns of scores, U resampled units (images or classes), R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
Unit = Literal["image", "class"]
Array = NDArray[Any]

INTERVAL_MEANING = "95 %, one model, test sampling"
RESAMPLES = 2000
_TAIL = 0.025  # of the draws, on either side
_Z = NormalDist().inv_cdf(1 - _TAIL)
_PER_CLASS = "/mean_per_class"
_BYTES_PER_DRAW = 32  # the draw, the unit it means, and the units' counts, with a copy in between


def metric_intervals(
    metrics: Iterable[str],
    scores: Mapping[str, Array],
    labels: Array,
    *,
    by_class: Collection[str] = (),
) -> dict[str, Interval]:
    """The interval of every metric that is a mean over test images, in percent.

    Args:
        metrics: keys; those that rest on no scores are left out, and those of which every resample
            gives the same.
        scores: per metric, (M,) in [0, 1], NaN where the image was not asked.
        labels: (M,) int64.
        by_class: metrics whose images are not independent of each other, such as class-disjoint
            retrieval: classes are resampled instead. A single class gives no interval.
    """
    found: dict[str, Interval] = {}
    resampled: dict[tuple[Unit, bool], list[str]] = {}  # drawn once for all metrics of a kind
    wanted = [key for key in metrics if scores_key(key) in scores]
    for key in wanted:
        values, per_class = scores[scores_key(key)], is_per_class(key)
        if key in by_class or per_class or not is_binary(values):
            unit: Unit = "class" if key in by_class else "image"
            resampled.setdefault((unit, per_class), []).append(key)
        elif total := int((~np.isnan(values)).sum()):
            found[key] = wilson_interval(int(np.nansum(values)), total)
    for (unit, per_class), keys in resampled.items():
        table = np.stack([scores[scores_key(key)] for key in keys], axis=1)
        bounds = bootstrap_intervals(table, labels, unit=unit, per_class=per_class)
        drawn = zip(keys, bounds, strict=True)
        # without width: in each class all images are alike, and what is drawn tells nothing
        found |= {key: bound for key, bound in drawn if bound is not None and bound[0] < bound[1]}
    return {key: (100 * found[key][0], 100 * found[key][1]) for key in wanted if key in found}


def scores_key(metric: str) -> str:
    """The scores that a metric is a mean of: `mean_per_class` averages those of `top1` by class."""
    return metric.removesuffix(_PER_CLASS) + "/top1" if is_per_class(metric) else metric


def is_per_class(metric: str) -> bool:
    """Whether classes, not images, weigh the same in a metric."""
    return metric.endswith(_PER_CLASS)


def is_binary(scores: Array) -> bool:
    """Whether all scores are 0 or 1, those of images not asked (NaN) left aside."""
    return bool(((scores == 0) | (scores == 1) | np.isnan(scores)).all())


def wilson_interval(right: int, total: int) -> Interval:
    """95 % score interval of a proportion.

    Args:
        right: between 0 and `total`.
        total: number of independent images, >= 1.

    Source: Wilson 1927, JASA 22 (158), 209-212; Brown, Cai, DasGupta 2001, eq. 4.
    """
    assert 0 <= right <= total, (right, total)
    assert total >= 1, total
    share = right / total
    shrink = 1 / (1 + _Z**2 / total)
    centre = shrink * (share + _Z**2 / (2 * total))
    half = shrink * _Z * math.sqrt(share * (1 - share) / total + _Z**2 / (4 * total**2))
    # at the ends the bound is exactly 0 or 1; rounding would miss it by an ulp
    return (0.0 if right == 0 else centre - half, 1.0 if right == total else centre + half)


def mean_scores(scores: Array, labels: Array, *, per_class: bool = False) -> list[float]:
    """The mean of every column, over images or (`per_class`) over classes.

    Args:
        scores: (M, K), NaN where an image was not asked; NaN is also the mean of none.
        labels: (M,) int64.
        per_class: the mean over classes of the mean within each.
    """
    weights = _weights(scores, np.unique(labels, return_inverse=True)[1], per_class=per_class)
    with np.errstate(invalid="ignore"):
        means = (np.nan_to_num(scores, nan=0.0) * weights).sum(axis=0) / weights.sum(axis=0)
    return [float(mean) for mean in means]


def bootstrap_intervals(
    scores: Array,
    labels: Array,
    *,
    unit: Unit = "image",
    per_class: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    memory_mib: int = 16,
) -> list[Interval | None]:
    """95 % percentile bootstrap interval of the mean of every column.

    Differences of two models' scores on the same images give the paired bootstrap.

    Args:
        scores: (M, K), NaN where an image was not asked: it then counts in no mean.
        labels: (M,) int64.
        unit: what is drawn with replacement: images (within their class if `per_class`, so that no
            class goes missing), or whole classes with all their images (cluster bootstrap).
        per_class: the mean over classes of the mean within each.
        resamples: R.
        seed: of the draws; equal arguments give equal intervals.
        memory_mib: bound on the working memory; changes the result by rounding at most.

    Returns:
        K intervals; None where fewer than two units were asked. With few classes (say, below 20)
        a cluster bootstrap is too narrow, and a class of a single image adds no width per class.

    Source: Efron and Tibshirani 1993, chapters 8 (units) and 13.3 (percentile interval).
    """
    assert scores.ndim == 2, scores.shape
    assert labels.shape == scores.shape[:1], (labels.shape, scores.shape)
    classes, class_of = np.unique(labels, return_inverse=True)
    weights = _weights(scores, class_of, per_class=per_class)
    values = np.nan_to_num(scores, nan=0.0) * weights
    strata = class_of if per_class else np.zeros_like(class_of)
    if unit == "class":
        values = _sums_by_class(values, class_of, len(classes))
        weights = _sums_by_class(weights, class_of, len(classes))
        strata = np.zeros(len(classes), dtype=np.int64)
    means = _resampled_means(values, weights, strata, resamples, seed, memory_mib)
    enough = (weights > 0).sum(axis=0) >= 2
    low, high = np.nanquantile(np.where(enough, means, 0.0), [_TAIL, 1 - _TAIL], axis=0)
    return [
        (float(low[column]), float(high[column])) if bool(enough[column]) else None
        for column in range(scores.shape[1])
    ]


def format_interval(value: float, interval: Interval | None) -> str:
    """Such as "88.5 [86.4, 90.3]"; the value alone where it has no interval."""
    return f"{value:.1f}" + ("" if interval is None else f" [{interval[0]:.1f}, {interval[1]:.1f}]")


def format_range(interval: Interval | None) -> str:
    """Such as "86.4-90.3", rounded outwards; "-" where there is none."""
    if interval is None:
        return "-"
    low, high = (round(10 * end, 6) for end in interval)
    return f"{math.floor(low) / 10:.1f}-{math.ceil(high) / 10:.1f}"


def _weights(scores: Array, class_of: Array, *, per_class: bool) -> Array:
    """(M, K): 0 where not asked, else 1, or one over the number asked in the image's class."""
    weights = (~np.isnan(scores)).astype(np.float64)
    if per_class:
        asked = _sums_by_class(weights, class_of, int(class_of.max()) + 1)
        weights = weights / asked[class_of].clip(min=1)
    return weights


def _sums_by_class(values: Array, class_of: Array, num_classes: int) -> Array:
    sums = np.zeros((num_classes, values.shape[1]))
    np.add.at(sums, class_of, values)
    return sums


def _resampled_means(
    values: Array, weights: Array, strata: Array, resamples: int, seed: int, memory_mib: int
) -> Array:
    """(R, K) weighted means over units drawn with replacement, each stratum keeping its size.

    Args:
        values: (U, K), already multiplied by the weights.
        weights: (U, K) >= 0.
        strata: (U,) int64 in [0, number of strata), none of them empty.
        resamples: R.
        seed: of the draws.
        memory_mib: bound on the working memory.
    """
    order = strata.argsort(kind="stable")
    sizes = np.bincount(strata)
    size_of_unit = sizes.repeat(sizes)
    first_of_unit = (sizes.cumsum() - sizes).repeat(sizes)
    columns = np.concatenate([values[order], weights[order]], axis=1)
    units = len(strata)
    generator = np.random.RandomState(seed)
    at_once = max(1, memory_mib * 2**20 // (_BYTES_PER_DRAW * units))
    means = []
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        # a number below 1 times a whole size rounds to less than that size: never the next stratum
        draws = _uniform(generator, rows, units) * size_of_unit
        drawn = draws.astype(np.int64) + first_of_unit
        drawn += units * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units)
        value, weight = np.split(counts.astype(np.float64) @ columns, 2, axis=1)
        with np.errstate(invalid="ignore"):  # a column in which nothing drawn was asked
            means.append(value / weight)
    return np.concatenate(means)


def _uniform(generator: np.random.RandomState, rows: int, columns: int) -> Array:
    """(rows, columns) float64 in [0, 1): the numbers of `torch.rand` from the same seed.

    So intervals are those of earlier versions, which drew with torch; its loading takes seconds.
    """
    raw = np.frombuffer(generator.bytes(8 * rows * columns), dtype="<u4").astype(np.uint64)
    bits = (raw[0::2] << np.uint64(32) | raw[1::2]) & np.uint64(2**53 - 1)
    return (bits.astype(np.float64) * 2.0**-53).reshape(rows, columns)

"""Student's t: intervals of means, and of differences of means, from a handful of runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from linear_eval.results.intervals import Interval

_LEVEL = 0.95
_HALVINGS = 80


def welch_interval(a: Sequence[float], b: Sequence[float]) -> Interval:
    """95 % interval of mean(b) - mean(a) for independent runs of unlike spread.

    Args:
        a: two numbers or more.
        b: likewise; the two sides may differ in number.

    Source: Welch 1947, Biometrika 34, 28-35; degrees of freedom by Satterthwaite 1946.
    """
    errors = [statistics.variance(side) / len(side) for side in (a, b)]
    if not sum(errors):
        difference = statistics.fmean(b) - statistics.fmean(a)
        return difference, difference
    freedom = sum(errors) ** 2 / sum(
        error**2 / (len(side) - 1) for error, side in zip(errors, (a, b), strict=True)
    )
    return _around(statistics.fmean(b) - statistics.fmean(a), math.sqrt(sum(errors)), freedom)


def paired_t_interval(a: Sequence[float], b: Sequence[float]) -> Interval:
    """95 % interval of mean(b) - mean(a) where run i of either side belongs together.

    Args:
        a: two numbers or more.
        b: as many.

    Source: Student 1908, Biometrika 6, 1-25.
    """
    differences = [second - first for first, second in zip(a, b, strict=True)]
    error = math.sqrt(statistics.variance(differences) / len(differences))
    return _around(statistics.fmean(differences), error, len(differences) - 1)


def t_quantile(level: float, freedom: float) -> float:
    """The t that a Student variable stays within, on both sides, with probability `level`.

    Args:
        level: in (0, 1).
        freedom: degrees of freedom, > 0, whole or not.
    """
    # P(|T| > t) = I_x(freedom / 2, 1 / 2) with x = freedom / (freedom + t^2), rising in x
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if incomplete_beta(middle, freedom / 2, 0.5) < 1 - level:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom * (1 - high) / high)


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b).

    Args:
        x: in [0, 1].
        a: > 0, up to about 10,000.
        b: likewise.

    Source: the continued fraction of DLMF 8.17.22.
    """
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(1 - x, b, a)  # where the fraction converges fast
    fraction = 1.0
    terms = 20 + 5 * math.isqrt(math.ceil(max(a, b)))  # pairs; the need grows as this root
    for m in range(terms, 0, -1):  # from the innermost term outwards: d(2m), then d(2m - 1)
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        k = m - 1
        odd = -(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1))
        fraction = 1 + odd / (1 + even / fraction)
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return math.exp(a * math.log(x) + b * math.log1p(-x) - log_beta) / (a * fraction)


def _around(difference: float, error: float, freedom: float) -> Interval:
    half = t_quantile(_LEVEL, freedom) * error
    return difference - half, difference + half

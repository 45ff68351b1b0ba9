"""How far two contestants are apart, with the noise of training and of the test images.

Shapes: S seeds, M test images.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from linear_eval.comparison.student_t import t_quantile
from linear_eval.results.intervals import Array, Interval

PRIOR_SPREAD = 1.5  # points between seeds of short runs: known before any seed of this contest
PRIOR_FREEDOM = 2  # as much as three seeds would say
_LEVEL = 0.95
_MOST_FREEDOM = 1000.0  # from which on a Student variable is normal


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One contestant less another, in points.

    Attributes:
        points: of accuracy.
        interval: 95 %.
        of_images: share of the variance that comes from the test images.
    """

    points: float
    interval: Interval
    of_images: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval has one sign."""
        return self.interval[0] > 0 or self.interval[1] < 0


def difference(
    ours: Sequence[Array], theirs: Sequence[Array], *, ours_vary: bool, theirs_vary: bool
) -> Difference:
    """The mean over seeds of `ours` less that of `theirs`, paired by image.

    Three variances add up: that of the test images (of the paired difference), and for each side
    that trains, that between its seeds divided by their number. A spread from two seeds is a guess,
    from one there is none: each counts together with an expected one, of `PRIOR_SPREAD` points at
    `PRIOR_FREEDOM` degrees of freedom. So a single seed makes the interval wide.

    Args:
        ours: S arrays (M,) of scores in [0, 1].
        theirs: likewise, of other seeds, perhaps more or fewer.
        ours_vary: whether another seed would give other scores.
        theirs_vary: likewise.

    Source: Satterthwaite 1946, Biometrics Bulletin 2, 110-114 (degrees of freedom of a sum);
        Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3 (1) 3 (spread with an expected one).
    """
    paired = np.mean(ours, axis=0) - np.mean(theirs, axis=0)
    images = len(paired)
    parts = [(float(paired.var(ddof=1)) / images, float(images - 1))]
    for side, varies in ((ours, ours_vary), (theirs, theirs_vary)):
        if varies:
            parts.append(_training_noise([float(each.mean()) for each in side]))
    variance = sum(part for part, _ in parts)
    if not variance:
        same = 100 * float(paired.mean())
        return Difference(points=same, interval=(same, same), of_images=0.0)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    half = t_quantile(_LEVEL, min(freedom, _MOST_FREEDOM)) * math.sqrt(variance)
    mean = float(paired.mean())
    return Difference(
        points=100 * mean,
        interval=(100 * (mean - half), 100 * (mean + half)),
        of_images=parts[0][0] / variance,
    )


def _training_noise(accuracies: Sequence[float]) -> tuple[float, float]:
    """Variance of the mean over seeds, and its degrees of freedom."""
    own = len(accuracies) - 1
    squares = own * statistics.variance(accuracies) if own else 0.0
    freedom = PRIOR_FREEDOM + own
    spread = (PRIOR_FREEDOM * (PRIOR_SPREAD / 100) ** 2 + squares) / freedom
    return spread / len(accuracies), freedom

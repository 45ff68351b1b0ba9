"""The exact McNemar test: does one of two models get more of the same images right?"""

from __future__ import annotations

import math


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Two-sided exact p-value, given the numbers of images that only one of the two got right.

    Were the models equally good, each of these images would be either's with probability 1/2.
    Images that both or neither got right say nothing.

    Args:
        only_a: >= 0.
        only_b: >= 0.

    Returns:
        In (0, 1], 0 only where it underflows; 1 where the models never disagree.

    Source: McNemar 1947, Psychometrika 12, 153-157, with the binomial in place of chi-squared.
    """
    total, fewer = only_a + only_b, min(only_a, only_b)
    # in logarithms: 2**-total underflows from 1,075 images on
    logs = [
        math.lgamma(total + 1)
        - math.lgamma(count + 1)
        - math.lgamma(total - count + 1)
        - total * math.log(2)
        for count in range(fewer + 1)
    ]
    # the last is the largest: counts up to half of the total
    tail = math.exp(logs[-1]) * math.fsum(math.exp(log - logs[-1]) for log in logs)
    return min(1.0, 2 * tail)

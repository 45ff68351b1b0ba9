from fractions import Fraction
from math import comb

import pytest

from linear_eval.comparison.mcnemar import mcnemar_p


def _by_counting(only_a: int, only_b: int) -> Fraction:
    """Probability of a split at least as uneven, from whole numbers."""
    total = only_a + only_b
    uneven = abs(only_a - only_b)
    ways = sum(comb(total, i) for i in range(total + 1) if abs(total - 2 * i) >= uneven)
    return Fraction(ways, 2**total)


@pytest.mark.parametrize("only_a", [0, 1, 5, 12, 40])
@pytest.mark.parametrize("only_b", [0, 1, 7, 12, 33])
def test_p_is_the_probability_of_a_split_at_least_as_uneven(only_a: int, only_b: int) -> None:
    expected = float(_by_counting(only_a, only_b))
    assert mcnemar_p(only_a, only_b) == pytest.approx(expected, rel=1e-12)
    assert mcnemar_p(only_b, only_a) == mcnemar_p(only_a, only_b)


def test_many_images_neither_underflow_nor_lose_digits() -> None:
    assert mcnemar_p(700, 780) == pytest.approx(float(_by_counting(700, 780)), rel=1e-9)
    assert mcnemar_p(20000, 20000) == 1.0
    assert 0 <= mcnemar_p(10, 40000) < 1e-300

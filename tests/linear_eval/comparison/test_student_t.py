import math
import random

import pytest

from linear_eval.comparison.student_t import (
    incomplete_beta,
    paired_t_interval,
    t_quantile,
    welch_interval,
)


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [  # the printed table of every textbook, two-sided 5 %
        (1, 12.706),
        (2, 4.303),
        (3, 3.182),
        (4, 2.776),
        (5, 2.571),
        (10, 2.228),
        (30, 2.042),
        (120, 1.980),
    ],
)
def test_t_quantiles_are_those_of_the_table(freedom: int, expected: float) -> None:
    assert t_quantile(0.95, freedom) == pytest.approx(expected, abs=5e-4)


def test_one_and_two_degrees_of_freedom_have_closed_forms() -> None:
    for level in (0.5, 0.9, 0.99):
        assert t_quantile(level, 1) == pytest.approx(math.tan(math.pi * level / 2), rel=1e-10)
        closed = level * math.sqrt(2 / (1 - level**2))
        assert t_quantile(level, 2) == pytest.approx(closed, rel=1e-10)


def test_many_degrees_of_freedom_approach_the_normal() -> None:
    # Cornish-Fisher to first order: z + (z^3 + z) / (4 freedom)
    z = 1.959963985
    assert t_quantile(0.95, 5000) == pytest.approx(z + (z**3 + z) / 20000, abs=1e-6)


@pytest.mark.parametrize(("a", "b"), [(2, 3), (7, 1), (1, 6), (4, 9)])
def test_the_incomplete_beta_function_is_a_binomial_tail(a: int, b: int) -> None:
    for x in (0.0, 0.05, 0.3, 0.5, 0.8, 0.99, 1.0):
        total = a + b - 1
        tail = sum(math.comb(total, i) * x**i * (1 - x) ** (total - i) for i in range(a, total + 1))
        assert incomplete_beta(x, a, b) == pytest.approx(tail, abs=1e-13)


def test_welch_follows_its_formula() -> None:
    a, b = [20.0, 22.0, 19.0, 23.0], [28.0, 30.0, 25.0]
    low, high = welch_interval(a, b)
    # worked by hand: means 21 and 83/3, variances 10/3 and 19/3
    error = 10 / 12 + 19 / 9
    freedom = error**2 / ((10 / 12) ** 2 / 3 + (19 / 9) ** 2 / 2)
    half = t_quantile(0.95, freedom) * math.sqrt(error)
    assert (low, high) == pytest.approx((20 / 3 - half, 20 / 3 + half))
    assert 3 < freedom < 4


def test_pairs_that_agree_make_a_narrow_interval() -> None:
    a, b = [10.0, 20.0, 30.0], [11.0, 21.5, 30.5]
    low, high = paired_t_interval(a, b)
    half = 4.302653 * 0.5 / math.sqrt(3)
    assert (low, high) == pytest.approx((1 - half, 1 + half), abs=1e-5)
    wide = welch_interval(a, b)
    assert wide[1] - wide[0] > 10 * (high - low)


def test_runs_without_spread_leave_the_difference_alone() -> None:
    assert welch_interval([1.0, 1.0], [3.0, 3.0]) == (2.0, 2.0)
    assert paired_t_interval([1.0, 2.0], [3.0, 4.0]) == (2.0, 2.0)


def test_three_runs_a_side_cover_the_truth_95_times_in_100() -> None:
    draws = random.Random(0)
    covered = {"welch": 0, "paired": 0}
    for _ in range(400):
        a = [draws.gauss(0, 1) for _ in range(3)]
        b = [draws.gauss(2, 1) for _ in range(3)]
        for name, interval in (
            ("welch", welch_interval(a, b)),
            ("paired", paired_t_interval(a, b)),
        ):
            covered[name] += interval[0] <= 2 <= interval[1]
    assert all(0.925 < count / 400 < 0.985 for count in covered.values()), covered

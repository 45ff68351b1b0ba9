"""Paired tests against scipy, and against 2,000 studies in which nothing differs."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linear_eval.comparison.paired_test import (
    bootstrap_interval,
    holm,
    paired_test,
    pairs_needed,
)
from linear_eval.comparison.student_t import t_quantile

STUDIES = 2000
SAMPLES = [
    [0.4, -0.1, 0.9, 0.3, 0.2],
    [1.2, 1.4],
    [-3.0, -2.5, -2.9, -3.3, -2.8, -3.1, -2.2],
    [0.01, -0.02, 0.005, 0.0, 0.013, -0.004],
]


@pytest.mark.parametrize("sample", SAMPLES)
def test_interval_and_p_are_those_of_scipy(sample: list[float]) -> None:
    stats = pytest.importorskip("scipy.stats", reason="the extra dev")
    expected = stats.ttest_1samp(sample, 0.0)
    found = paired_test(sample, margin=0.5)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    interval = expected.confidence_interval(0.95)
    assert found.interval == pytest.approx((interval.low, interval.high), rel=1e-9)


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("margin", [0.02, 0.5, 3.0])
def test_equivalence_is_two_one_sided_tests_of_scipy(sample: list[float], margin: float) -> None:
    stats = pytest.importorskip("scipy.stats", reason="the extra dev")
    above = stats.ttest_1samp(sample, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(sample, margin, alternative="less").pvalue
    found = paired_test(sample, margin=margin)
    assert found.p_equivalence == pytest.approx(max(above, below), rel=1e-9)
    low, high = stats.ttest_1samp(sample, 0.0).confidence_interval(0.90)
    assert found.is_equivalent == (-margin < low and high < margin)


def test_differences_without_spread_are_counted_by_their_signs() -> None:
    nothing = paired_test([0.0, 0.0, 0.0], margin=0.5)
    assert (nothing.p, nothing.p_equivalence, nothing.interval) == (1.0, 0.0, (0.0, 0.0))
    twice = paired_test([2.0, 2.0], margin=0.5)
    assert (twice.p, twice.p_equivalence, twice.interval) == (0.5, 1.0, (2.0, 2.0))
    small = paired_test([0.1] * 6, margin=0.5)
    assert (small.p, small.p_equivalence) == (2**-5, 2**-6)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_its_definition(p_values: list[float]) -> None:
    found = holm(p_values)
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        steps = [(len(order) - j) * p_values[order[j]] for j in range(rank + 1)]
        assert found[index] == pytest.approx(min(1.0, max(steps)))


def test_holm_of_a_published_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize("pairs", [2, 3, 5, 10])
def test_of_two_thousand_null_studies_as_many_are_wrong_as_stated(pairs: int) -> None:
    draws = np.random.default_rng(1).normal(size=(STUDIES, pairs))
    found = [paired_test(list(row), margin=1.0) for row in draws]
    wrong = sum(each.p < 0.05 for each in found)
    covered = sum(each.interval[0] <= 0 <= each.interval[1] for each in found)
    assert wrong + covered == STUDIES  # one and the same
    spread = math.sqrt(STUDIES * 0.05 * 0.95)
    assert abs(wrong - 0.05 * STUDIES) < 1.96 * spread


def test_of_two_thousand_studies_at_the_margin_few_are_called_equivalent() -> None:
    draws = np.random.default_rng(2).normal(loc=1.0, scale=0.3, size=(STUDIES, 5))
    called = sum(paired_test(list(row), margin=1.0).is_equivalent for row in draws)
    assert abs(called - 0.05 * STUDIES) < 1.96 * math.sqrt(STUDIES * 0.05 * 0.95)


def test_holm_keeps_the_rate_of_any_wrong_claim_among_several_contrasts() -> None:
    arms = np.random.default_rng(3).normal(size=(STUDIES, 4, 5))  # three arms against one
    wrong = 0
    for study in arms:
        p_values = [paired_test(list(study[k] - study[0]), margin=1.0).p for k in (1, 2, 3)]
        wrong += min(holm(p_values)) < 0.05
    assert wrong < 0.05 * STUDIES + 1.64 * math.sqrt(STUDIES * 0.05 * 0.95)
    assert wrong > 0.02 * STUDIES  # and it does not sleep


def test_the_bootstrap_is_that_of_scipy_and_narrow_for_few_pairs() -> None:
    stats = pytest.importorskip("scipy.stats", reason="the extra dev")
    sample = [float(value) for value in np.random.default_rng(4).normal(size=30)]
    expected = stats.bootstrap(
        (sample,), np.mean, method="percentile", random_state=0, n_resamples=10_000
    ).confidence_interval
    assert bootstrap_interval(sample) == pytest.approx((expected.low, expected.high), abs=0.02)
    draws = np.random.default_rng(5).normal(size=(300, 5))
    covered = sum(low <= 0 <= high for low, high in map(bootstrap_interval, draws.tolist()))
    assert 0.76 < covered / 300 < 0.90


@settings(deadline=None, max_examples=50)
@given(st.floats(0.01, 20), st.floats(0.05, 5))
def test_so_many_pairs_are_needed_and_no_fewer(spread: float, half_width: float) -> None:
    found = pairs_needed(spread, half_width)
    if found is None:
        assert t_quantile(0.95, 999) * spread > half_width * math.sqrt(1000)
        return
    assert t_quantile(0.95, found - 1) * spread <= half_width * math.sqrt(found)
    if found > 2:
        assert t_quantile(0.95, found - 2) * spread > half_width * math.sqrt(found - 1)

"""Run: pytest tests/linear_eval/charts/test_axis.py."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linear_eval.charts.axis import category_axis, linear_axis, log_axis, tick_text, tight_axis

NUMBERS = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6)


@settings(deadline=None)
@given(values=st.lists(NUMBERS, min_size=1, max_size=5))
def test_an_axis_holds_all_values_between_round_ticks(values: list[float]) -> None:
    axis = linear_axis(values)
    slack = 1e-6 * max(1.0, *(abs(value) for value in values))
    assert axis.low - slack <= min(values)
    assert max(values) <= axis.high + slack
    assert axis.low < axis.high
    places = [place for place, _ in axis.ticks]
    assert 2 <= len(places) <= 9
    steps = [second - first for first, second in pairwise(places)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-6)
    texts = [text for _, text in axis.ticks]
    assert len(set(texts)) == len(texts)


@settings(deadline=None)
@given(high=st.floats(0.01, 1e4))
def test_a_tight_axis_ends_with_the_data(high: float) -> None:
    axis = tight_axis(high)
    assert (axis.low, axis.high) == (0.0, high)
    assert axis.ticks[0] == (0.0, "0")
    assert all(place <= high * (1 + 1e-9) for place, _ in axis.ticks)


def test_a_share_lies_between_0_and_1_also_for_ratios() -> None:
    axis = linear_axis([0.0, 10.0])
    assert [axis.share(value) for value in (-5.0, 0.0, 5.0, 99.0)] == [0.0, 0.0, 0.5, 1.0]
    ratios = log_axis([1, 10, 100])
    assert ratios.share(10) == pytest.approx(0.5)
    assert ratios.share(0.0) == 0.0
    assert ratios.ticks == ((1, "1"), (10, "10"), (100, "100"))


def test_categories_have_room_at_both_ends() -> None:
    axis = category_axis(["a", "b"])
    assert [axis.share(place) for place, _ in axis.ticks] == [0.25, 0.75]


def test_numbers_at_ticks_are_for_people() -> None:
    assert tick_text(-0.25, 2, 1.0) == "\N{MINUS SIGN}0.25"
    assert tick_text(0.0, 2, 1.0) == "0"
    assert tick_text(2e-5, 5, 1e-4) == "2e\N{MINUS SIGN}5"
    texts = [text for _, text in linear_axis([0.0, 0.01]).ticks]
    assert texts == ["0", "0.0025", "0.0050", "0.0075", "0.0100"]
    whole = linear_axis([0.0, 12.0], whole=True).ticks
    assert all(math.isclose(place, round(place)) for place, _ in whole)

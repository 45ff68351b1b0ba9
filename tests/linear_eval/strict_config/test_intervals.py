"""Tests of linear_eval.strict_config.intervals."""

import pytest

from linear_eval.strict_config.intervals import Interval, read_interval


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", Interval(seconds=90)),
        ("10min", Interval(seconds=600)),
        ("0.5 h", Interval(seconds=1800)),
        ("500steps", Interval(steps=500)),
        ("1 step", Interval(steps=1)),
        ("5epochs", Interval(steps=35)),
        ("1epoch", Interval(steps=7)),
    ],
)
def test_times_steps_and_epochs(text: str, expected: Interval) -> None:
    assert read_interval(text, steps_per_epoch=7) == expected


@pytest.mark.parametrize(
    "text", ["", "10", "min", "10 minutes", "-1min", "0s", "0steps", "1.5epochs", "10m", "1e3s"]
)
def test_anything_else_says_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number with its unit, such as 90s, 10min"):
        read_interval(text)

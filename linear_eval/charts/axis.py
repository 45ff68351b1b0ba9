"""Axes: round numbers at the ticks, and where a value lies between them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)  # times a power of ten
_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, with texts at some values.

    Attributes:
        low: at the start.
        high: at the end, > low.
        ticks: value and text of each.
        is_log: equal distances are equal ratios; then low > 0.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    is_log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, 0 at `low` and 1 at `high`; beyond these, cut off there."""
        low, high, at = self.low, self.high, value
        if self.is_log:
            low, high, at = math.log(low), math.log(high), math.log(max(value, self.low))
        return min(1.0, max(0.0, (at - low) / (high - low)))


def linear_axis(values: Iterable[float], *, num_ticks: int = 4, whole: bool = False) -> Axis:
    """An axis of round ticks around all values.

    Args:
        values: finite; at least one.
        num_ticks: about so many.
        whole: ticks at whole numbers only, such as epochs.
    """
    found = list(values)
    low, high = min(found), max(found)
    if low == high:
        slack = abs(low) / 10 or 1.0
        low, high = low - slack, high + slack
    step = _round_step((high - low) / num_ticks)
    step = max(1.0, math.ceil(step)) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9), _digits(step))
    places = [number * step for number in range(first, last + 1)]
    largest = max(abs(place) for place in places)
    return Axis(
        low=places[0],
        high=places[-1],
        ticks=tuple((place, tick_text(place, digits, largest)) for place in places),
    )


def tight_axis(high: float, *, num_ticks: int = 5) -> Axis:
    """From 0 to exactly `high` > 0, with round ticks within."""
    wide = linear_axis([0.0, high], num_ticks=num_ticks, whole=high >= num_ticks)
    slack = high * 1e-9
    return Axis(0.0, high, tuple(tick for tick in wide.ticks if tick[0] <= high + slack))


def log_axis(values: Iterable[float]) -> Axis:
    """An axis of ratios, with a tick at every value; they are > 0, and not all the same."""
    found = sorted(set(values))
    return Axis(found[0], found[-1], tuple((each, f"{each:g}") for each in found), is_log=True)


def category_axis(names: Iterable[str]) -> Axis:
    """An axis of names, at 0, 1, 2, ..., with half a step of room at either end."""
    found = list(names)
    return Axis(-0.5, len(found) - 0.5, tuple((float(n), name) for n, name in enumerate(found)))


def tick_text(value: float, digits: int, largest: float) -> str:
    """A number with so many decimals, or a power of ten where it would be long or tiny."""
    if value == 0:
        return "0"
    if largest < 1e-3 or largest >= 1e5:
        exponent = math.floor(math.log10(abs(value)) + 1e-9)
        return f"{value / 10**exponent:.3g}e{exponent}".replace("-", _MINUS)
    return f"{value:.{digits}f}".replace("-", _MINUS)


def _round_step(rough: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in _STEPS if step * power >= rough * (1 - 1e-9))


def _digits(step: float) -> int:
    """Decimals that a step such as 2.5 or 0.25 needs."""
    for digits in range(12):
        if math.isclose(round(step, digits), step, rel_tol=1e-9):
            return digits
    return 12

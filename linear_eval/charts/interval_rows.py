"""Estimates with their intervals on one common axis, each in a row of its own (a forest plot)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from linear_eval.charts.axis import Axis, linear_axis

Pair = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A difference with its interval.

    Attributes:
        name: of the row.
        value: the estimate.
        interval: around it; None where there is none.
        margin: differences within plus or minus this count as none; None where none is set.
        text: what stands at the end of the row.
        tags: short remarks behind the name.
    """

    name: str
    value: float
    interval: Pair | None
    margin: float | None = None
    text: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PlacedEstimate:
    """An estimate with its places, in percent of the width."""

    estimate: Estimate
    value: float
    interval: Pair | None
    margin: Pair | None


@dataclass(frozen=True, kw_only=True)
class IntervalRows:
    """Rows on one axis.

    Attributes:
        rows: in the order given.
        ticks: text and place of each, in percent.
        zero: place of no difference.
    """

    rows: tuple[PlacedEstimate, ...]
    ticks: tuple[tuple[str, float], ...]
    zero: float


def interval_rows(estimates: Sequence[Estimate]) -> IntervalRows:
    """Place the rows on an axis that has 0 and all ends; at least one."""
    ends = [0.0]
    for each in estimates:
        ends += [each.value, *(each.interval or ()), each.margin or 0.0, -(each.margin or 0.0)]
    axis = linear_axis(ends, num_ticks=6)
    return IntervalRows(
        rows=tuple(_placed(each, axis) for each in estimates),
        ticks=tuple((text, percent(axis, value)) for value, text in axis.ticks),
        zero=percent(axis, 0.0),
    )


def percent(axis: Axis, value: float) -> float:
    """Where a value lies, in percent of the axis."""
    return round(100 * axis.share(value), 2)


def _placed(each: Estimate, axis: Axis) -> PlacedEstimate:
    ends, margin = each.interval, each.margin
    return PlacedEstimate(
        estimate=each,
        value=percent(axis, each.value),
        interval=None if ends is None else (percent(axis, ends[0]), percent(axis, ends[1])),
        margin=None if margin is None else (percent(axis, -margin), percent(axis, margin)),
    )

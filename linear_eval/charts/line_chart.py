"""Lines over an axis, placed on a drawing of a fixed size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from linear_eval.charts.axis import Axis

WIDTH, HEIGHT = 360, 230
NUM_COLOURS = 10  # that a page has
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 10, 38  # room around the drawing for ticks and labels


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        name: for the legend and for who reads it out.
        points: x and y; a y that is not finite leaves a gap.
        colour: number of its colour on the page.
        is_dashed: a second kind of the same colour.
        dots: whether every point is marked.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    is_dashed: bool = False
    dots: bool = False


@dataclass(frozen=True)
class PlacedLine:
    """A line with its path on the drawing, and its points: x, y, and their places."""

    line: Line
    path: str
    points: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class PlacedTick:
    """A tick with its place along its axis, and how its text is aligned there."""

    text: str
    place: float
    anchor: str = "middle"


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """A drawing of `WIDTH` x `HEIGHT`.

    Attributes:
        title: what is drawn.
        x_label: below the axis.
        lines: the first is drawn first.
        x_ticks: along the lower edge.
        y_ticks: along the left edge.
        note: one sentence for the reader, or nothing.
        marked: places (from, to) of a stretch of x that the note is about.
    """

    title: str
    x_label: str
    lines: tuple[PlacedLine, ...]
    x_ticks: tuple[PlacedTick, ...]
    y_ticks: tuple[PlacedTick, ...]
    note: str = ""
    marked: tuple[float, float] | None = None

    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM

    def as_data(self) -> list[dict[str, Any]]:
        """What the page reads out: of each line its name, colour, and points (x, y, place of x)."""
        return [
            {
                "name": each.line.name,
                "colour": f"f{each.line.colour % NUM_COLOURS}" if each.line.colour >= 0 else "",
                "points": [(x, y, place) for x, y, place, _ in each.points],
            }
            for each in self.lines
        ]


def line_chart(
    title: str,
    lines: Sequence[Line],
    x_axis: Axis,
    y_axis: Axis,
    *,
    x_label: str = "",
    note: str = "",
    marked: tuple[float, float] | None = None,
) -> LineChart:
    """Place lines on a drawing; `marked` is a stretch of x."""
    ends = None if marked is None else (_x(x_axis, marked[0]), _x(x_axis, marked[1]))
    return LineChart(
        title=title,
        x_label=x_label,
        lines=tuple(_placed(line, x_axis, y_axis) for line in lines),
        x_ticks=_x_ticks(x_axis),
        y_ticks=tuple(PlacedTick(text, _y(y_axis, value)) for value, text in y_axis.ticks),
        note=note,
        marked=ends,
    )


def _placed(line: Line, x_axis: Axis, y_axis: Axis) -> PlacedLine:
    parts, points, is_drawing = [], [], False
    for x, y in line.points:
        if not math.isfinite(y):
            is_drawing = False
            continue
        place = (_x(x_axis, x), _y(y_axis, y))
        parts.append(f"{'L' if is_drawing else 'M'}{place[0]:g} {place[1]:g}")
        points.append((x, y, *place))
        is_drawing = True
    return PlacedLine(line, "".join(parts), tuple(points))


def _x_ticks(axis: Axis) -> tuple[PlacedTick, ...]:
    """Those at the very ends are aligned inwards, so that no text leaves the drawing."""
    ticks = []
    for value, text in axis.ticks:
        share = axis.share(value)
        anchor = "end" if share > 0.97 else "middle"
        ticks.append(PlacedTick(text, _x(axis, value), anchor))
    return tuple(ticks)


def _x(axis: Axis, value: float) -> float:
    return round(LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT), 1)


def _y(axis: Axis, value: float) -> float:
    return round(HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM), 1)

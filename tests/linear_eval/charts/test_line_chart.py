"""Run: pytest tests/linear_eval/charts/test_line_chart.py."""

import math

from linear_eval.charts.axis import linear_axis
from linear_eval.charts.line_chart import Line, line_chart


def test_a_gap_where_a_number_is_not_finite_and_all_within_the_drawing() -> None:
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, math.nan), (3.0, 0.0), (4.0, 2.0)]
    chart = line_chart("loss", [Line("a", points)], linear_axis([0, 4]), linear_axis([0, 2]))
    [line] = chart.lines
    assert line.path.count("M") == 2
    assert line.path.count("L") == 2
    assert [(x, y) for x, y, *_ in line.points] == [point for point in points if point[0] != 2]
    for _, _, x, y in line.points:
        assert chart.left <= x <= chart.right
        assert chart.top <= y <= chart.bottom
    # the higher number is higher up
    assert line.points[1][3] < line.points[0][3]


def test_what_the_page_reads_out() -> None:
    chart = line_chart(
        "loss",
        [Line("a", [(0.0, 1.5)], 12), Line("b", [], -1)],
        linear_axis([0, 1]),
        linear_axis([1]),
    )
    first, second = chart.as_data()
    assert first == {"name": "a", "colour": "f2", "points": [(0.0, 1.5, chart.left)]}
    assert second == {"name": "b", "colour": "", "points": []}

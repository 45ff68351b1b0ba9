"""Run: pytest tests/linear_eval/charts/test_interval_rows.py."""

from hypothesis import given, settings
from hypothesis import strategies as st

from linear_eval.charts.interval_rows import Estimate, interval_rows

POINTS = st.floats(-50, 50)


@settings(deadline=None)
@given(rows=st.lists(st.tuples(POINTS, st.floats(0.01, 9), st.none() | st.floats(0.1, 5))))
def test_places_keep_the_order_of_the_numbers(
    rows: list[tuple[float, float, float | None]],
) -> None:
    if not rows:
        return
    drawn = interval_rows(
        [
            Estimate(name="x", value=value, interval=(value - half, value + half), margin=margin)
            for value, half, margin in rows
        ]
    )
    for row in drawn.rows:
        assert row.interval is not None
        assert 0 <= row.interval[0] <= row.value <= row.interval[1] <= 100
        if row.margin is not None:
            assert row.margin[0] <= drawn.zero <= row.margin[1]
        assert (row.value > drawn.zero) <= (row.estimate.value > 0)

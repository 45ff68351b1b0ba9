"""Right and wrong against double loops. Run: pytest tests/linear_eval/report/test_answers.py."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linear_eval.report.answers import (
    class_rows,
    confused_pairs,
    disagreement,
    evenly,
    metric_name,
    predictor_of,
)
from linear_eval.report.contestants import Shown
from linear_eval.results.per_image import PerImage
from linear_eval.results.results_file import Results

NAMES = ("a", "b", "c", "d")
ANSWERS = st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=30)


def shown(name: str, labels: list[int], said: list[int]) -> Shown:
    ids = tuple(f"image {number}" for number in range(len(labels)))
    answers = PerImage(
        ids=ids,
        labels=np.array(labels),
        class_names=NAMES,
        judged=name,
        scores={name: {}},
        predictions={name: {"knn/k=20": np.array(said)}},
    )
    results = Results(
        path=Path(name), metrics={}, protocols=("ours",), settings={}, backbone={}, data={},
        per_image=None,
    )  # fmt: skip
    return Shown(
        key=name, name=name, colour=0, results=results, metrics={}, intervals={}, is_judged=True,
        answers=answers,
    )  # fmt: skip


@settings(deadline=None)
@given(found=ANSWERS)
def test_classes_pairs_and_cells_are_those_of_loops(found: list[tuple[int, int, int]]) -> None:
    labels, first, second = map(list, zip(*found, strict=True))
    a, b = shown("A", labels, first), shown("B", labels, second)

    rows = {row.name: row for row in class_rows(a, [b, a], "knn/k=20")}
    assert rows.keys() == {NAMES[label] for label in labels}
    for label in set(labels):
        right = [said for truth, said, _ in found if truth == label and said == label]
        others = [said for truth, _, said in found if truth == label and said == label]
        total = labels.count(label)
        row = rows[NAMES[label]]
        assert row.count == total
        assert row.value == pytest.approx(100 * len(right) / total)
        [(name, _, value)] = row.others
        assert name == "B"
        assert value == pytest.approx(100 * len(others) / total)
        assert row.interval[0] <= row.value + 0.01
        assert row.value - 0.01 <= row.interval[1]

    pairs = confused_pairs(a, "knn/k=20")
    expected: dict[tuple[str, str], int] = {}
    for truth, said, _ in found:
        if truth != said:
            key = (NAMES[truth], NAMES[said])
            expected[key] = expected.get(key, 0) + 1
    counts = [pair.count for pair in pairs]
    assert counts == sorted(expected.values(), reverse=True)[:8]
    assert all(expected[pair.truth, pair.said] == pair.count for pair in pairs)
    for pair in pairs:
        assert all(NAMES[labels[row]] == pair.truth for row in pair.rows)
        assert all(NAMES[first[row]] == pair.said for row in pair.rows)

    cells = disagreement(a, b, "knn/k=20")
    assert cells is not None
    for number, (truth, one, other) in enumerate(found):
        cell = {
            (True, True): cells.both,
            (True, False): cells.only_a,
            (False, True): cells.only_b,
            (False, False): cells.neither,
        }[one == truth, other == truth]
        assert f"image {number}" in cell
    total = sum(map(len, (cells.both, cells.only_a, cells.only_b, cells.neither)))
    assert total == len(found)


@settings(deadline=None)
@given(count=st.integers(0, 50), wanted=st.integers(1, 12))
def test_evenly_spaced_rows_are_some_of_them_in_order(count: int, wanted: int) -> None:
    rows = evenly(range(100, 100 + count), wanted)
    assert len(rows) == min(count, wanted)
    assert rows == sorted(set(rows))
    assert set(rows) <= set(range(100, 100 + count))


def test_the_answers_shown_are_those_of_knn_where_it_was_asked_for() -> None:
    one = shown("A", [0], [0])
    assert one.answers is not None
    assert predictor_of(one.answers) == "knn/k=20"
    assert metric_name("knn/k=20/top1") == "k-NN (k=20)"
    assert metric_name("something/else") == "something/else"

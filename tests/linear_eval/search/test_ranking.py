"""Every score against a loop over ranks, written from its definition."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from linear_eval.search.ranking import (
    average_precision,
    average_precision_at_r,
    precision_at_k,
    r_precision,
    recall_at_k,
    trapezoidal_average_precision,
    without_ignored,
)


def lists(draw_rest: bool) -> st.SearchStrategy[tuple[list[bool], int]]:
    """A ranked list with at least one relevant item, and how many the gallery holds of them."""
    ranked = st.lists(st.booleans(), min_size=1, max_size=12).filter(any)
    rest = st.integers(0, 4) if draw_rest else st.just(0)
    return st.tuples(ranked, rest).map(lambda pair: (pair[0], sum(pair[0]) + pair[1]))


def score_of(
    function: Callable[[Tensor, Tensor], Tensor], ranked: list[bool], num_relevant: int
) -> float:
    """The score of one query, computed beside another query of the same length."""
    other = [True] * len(ranked)
    scores = function(torch.tensor([other, ranked]), torch.tensor([len(other), num_relevant]))
    assert (scores.dtype, scores.shape) == (torch.float64, (2,))
    assert scores[0] == 1
    return float(scores[1])


def precision(ranked: list[bool], rank: int) -> float:
    hits = 0
    for i in range(rank):
        if ranked[i]:
            hits += 1
    return hits / rank


@given(lists(draw_rest=True))
def test_average_precision_equals_a_loop(case: tuple[list[bool], int]) -> None:
    ranked, num_relevant = case
    expected = 0.0
    for i in range(len(ranked)):
        if ranked[i]:
            expected += precision(ranked, i + 1)
    assert score_of(average_precision, *case) == pytest.approx(expected / num_relevant, abs=1e-12)


@given(lists(draw_rest=False))
def test_average_precision_at_r_equals_a_loop(case: tuple[list[bool], int]) -> None:
    ranked, r = case
    expected = 0.0
    for i in range(r):
        if ranked[i]:
            expected += precision(ranked, i + 1)
    assert score_of(average_precision_at_r, *case) == pytest.approx(expected / r, abs=1e-12)


@given(lists(draw_rest=False))
def test_r_precision_is_the_precision_at_rank_r(case: tuple[list[bool], int]) -> None:
    ranked, r = case
    assert score_of(r_precision, *case) == pytest.approx(precision(ranked, r), abs=1e-12)


@given(lists(draw_rest=False), st.data())
def test_recall_at_k_says_whether_one_of_the_first_k_is_relevant(
    case: tuple[list[bool], int], data: st.DataObject
) -> None:
    ranked, _ = case
    k = data.draw(st.integers(1, len(ranked)))
    scores = recall_at_k(torch.tensor([ranked, [False] * len(ranked)]), k)
    assert scores.tolist() == [float(True in ranked[:k]), 0.0]


@pytest.mark.parametrize(
    ("relevant_ranks", "r_precision_percent", "map_at_r_percent"),
    [([1], 10, 10), ([1, 10], 20, 12), ([1, 2], 20, 20), (list(range(1, 11)), 100, 100)],
)
def test_scores_of_the_four_examples_in_musgrave_et_al(
    relevant_ranks: list[int], r_precision_percent: float, map_at_r_percent: float
) -> None:
    # their table of toy retrieval results: ten relevant items exist, ten are retrieved
    ranked = [rank in relevant_ranks for rank in range(1, 11)]
    assert 100 * score_of(r_precision, ranked, 10) == pytest.approx(r_precision_percent)
    assert 100 * score_of(average_precision_at_r, ranked, 10) == pytest.approx(map_at_r_percent)


@given(lists(draw_rest=False))
def test_scores_are_shares_and_map_at_r_is_at_most_r_precision(
    case: tuple[list[bool], int],
) -> None:
    at_r, share = score_of(average_precision_at_r, *case), score_of(r_precision, *case)
    assert 0 <= at_r <= share <= 1
    assert at_r <= score_of(average_precision, *case) <= 1


def trapezoid_loop(ranked: list[bool], num_relevant: int) -> float:
    """Area under straight lines between the points of the precision-recall curve."""
    area, hits, previous = 0.0, 0, 1.0
    for rank, is_relevant in enumerate(ranked, start=1):
        before = hits / (rank - 1) if rank > 1 else previous
        if is_relevant:
            hits += 1
            area += (before + hits / rank) / 2 * (1 / num_relevant)
    return area


@given(lists(draw_rest=True))
def test_trapezoidal_average_precision_equals_a_loop(case: tuple[list[bool], int]) -> None:
    expected = trapezoid_loop(*case)
    score = score_of(trapezoidal_average_precision, *case)
    assert score == pytest.approx(expected, abs=1e-12)


def test_trapezoidal_average_precision_of_one_item_at_rank_two() -> None:
    # no precision before it, 1/2 at it: the mean of both
    assert score_of(trapezoidal_average_precision, [False, True], 1) == pytest.approx(0.25)


@given(lists(draw_rest=False), st.integers(1, 15))
def test_precision_at_k_stops_at_the_last_relevant_item(
    case: tuple[list[bool], int], k: int
) -> None:
    ranked, num_relevant = case
    last = max(rank for rank, is_relevant in enumerate(ranked, start=1) if is_relevant)
    depth = min(k, last)
    score = precision_at_k(torch.tensor([ranked]), torch.tensor([num_relevant]), k)
    assert score.tolist() == pytest.approx([sum(ranked[:depth]) / depth], abs=1e-12)


@given(st.lists(st.sampled_from(["relevant", "ignored", "wrong"]), min_size=1, max_size=12))
def test_ignored_items_vanish_from_a_ranking(grades: list[str]) -> None:
    relevant = torch.tensor([[grade == "relevant" for grade in grades]])
    ignored = torch.tensor([[grade == "ignored" for grade in grades]])
    kept = [grade == "relevant" for grade in grades if grade != "ignored"]
    expected = kept + [False] * (len(grades) - len(kept))
    assert without_ignored(relevant, ignored).tolist() == [expected]

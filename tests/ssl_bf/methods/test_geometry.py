"""Tests of ssl_bf.methods.geometry against loops over single numbers, and of what they mean."""

import math

import pytest
import torch
from torch import Tensor

from linear_eval.own_images.feature_quality import alignment as alignment_of_features
from linear_eval.own_images.feature_quality import rank_me, uniformity
from ssl_bf.losses.unit_length import unit_length
from ssl_bf.methods.geometry import ROWS, alignment, logits, spread

S, N, P, M = 2, 9, 4, 7


def randn(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(S, N, P), (1, 5, 12)], ids=["tall", "wide"])
def test_rank_and_uniformity_are_those_of_the_judge_on_unit_rows(
    shape: tuple[int, int, int],
) -> None:
    rows = 3 * randn(*shape, seed=1)
    values = spread(rows)
    for s in range(shape[0]):
        expected = rank_me(unit_length(rows[s]))
        # the larger Gram matrix has more singular values, each 0: the epsilon of each counts
        assert values[f"effective_rank/stream_{s}"] == pytest.approx(expected, rel=1e-4)
        assert values[f"uniformity/stream_{s}"] == pytest.approx(uniformity(rows[s]), rel=1e-6)
    assert len(values) == 2 * shape[0]


def test_a_collapsed_stream_has_rank_1_and_uniformity_0() -> None:
    values = spread(randn(1, 1, P, seed=1).expand(1, N, P) * torch.rand(1, N, 1))
    assert values["effective_rank/stream_0"] == pytest.approx(1, abs=1e-3)
    assert values["uniformity/stream_0"] == pytest.approx(0, abs=1e-6)


def test_only_the_first_rows_are_looked_at() -> None:
    rows = randn(1, ROWS + 5, P, seed=1)
    assert spread(rows) == spread(rows[:, :ROWS])


def test_rows_that_are_not_finite_give_nan() -> None:
    rows = randn(1, N, P, seed=1)
    rows[0, 3, 2] = math.nan
    assert all(math.isnan(value) for value in spread(rows).values())


def test_alignment_is_that_of_the_judge() -> None:
    queries, keys = randn(S, N, P, seed=1), randn(N, P, seed=2)
    values = alignment(queries, keys)
    for s in range(S):
        expected = alignment_of_features(queries[s], keys)
        assert values[f"alignment/stream_{s}"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("queued", [True, False], ids=["queue", "batch"])
def test_logits_equal_the_definition(queued: bool) -> None:
    queries, keys = unit_length(randn(S, N, P, seed=1)), unit_length(randn(N, P, seed=2))
    negatives = unit_length(randn(M, P, seed=3)) if queued else None
    values = logits(5 * queries, 2 * keys, 0.2, negatives)
    for s in range(S):
        own = [float(queries[s, i] @ keys[i]) / 0.2 for i in range(N)]
        others = [
            float(queries[s, i] @ other) / 0.2
            for i in range(N)
            for j, other in enumerate(keys if negatives is None else negatives)
            if queued or i != j
        ]
        assert values[f"positive_logit/stream_{s}"] == pytest.approx(sum(own) / N)
        expected = sum(others) / len(others)
        assert values[f"negative_logit/stream_{s}"] == pytest.approx(expected)

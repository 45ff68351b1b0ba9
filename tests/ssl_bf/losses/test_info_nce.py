"""Tests of ssl_bf.losses.info_nce."""

import math

import pytest
import torch
from torch import Tensor

from ssl_bf.losses.info_nce import info_nce, info_nce_logits
from ssl_bf.losses.unit_length import unit_length

N, M, P = 4, 6, 5
TEMPERATURE = 0.3
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def randn(seed: int, rows: int, width: int = P, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=generator, dtype=torch.float64).to(dtype)


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Query and key of any length, negatives of unit length."""
    negatives = unit_length(randn(3, M)).to(dtype)
    return 2 * randn(1, N, dtype=dtype), 3 * randn(2, N, dtype=dtype), negatives


def some_excluded() -> Tensor:
    return torch.rand(N, M, generator=torch.Generator().manual_seed(4)) < 0.4


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def by_loops(query: Tensor, key: Tensor, negatives: Tensor, excluded: Tensor) -> float:
    """Equation 1 of the paper, one number at a time; negatives are taken as they are."""
    total = 0.0
    for i, (q, k) in enumerate(zip(query.tolist(), key.tolist(), strict=True)):
        length = math.sqrt(dot(q, q))
        own = dot(q, k) / length / math.sqrt(dot(k, k)) / TEMPERATURE
        candidates = [own]
        for j, negative in enumerate(negatives.tolist()):
            if not excluded[i, j]:
                candidates.append(dot(q, negative) / length / TEMPERATURE)
        total += math.log(sum(math.exp(value) for value in candidates)) - own
    return total / len(query)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("excludes", [False, True])
def test_it_equals_the_definition_in_every_precision(dtype: torch.dtype, excludes: bool) -> None:
    query, key, negatives = inputs(dtype)
    excluded = some_excluded() if excludes else None
    loss = info_nce(query, key, negatives, TEMPERATURE, excluded)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    none_excluded = torch.zeros(N, M, dtype=torch.bool)
    expected = by_loops(query, key, negatives, none_excluded if excluded is None else excluded)
    # The inputs are rounded before both sides see them; what follows is float32 or wider.
    tolerance = 1e-13 if dtype == torch.float64 else 2e-6
    assert loss.item() == pytest.approx(expected, abs=tolerance)


def test_float32_negatives_serve_float64_queries() -> None:
    query, key, negatives = inputs()
    loss = info_nce(query, key, negatives.float(), TEMPERATURE)
    torch.testing.assert_close(
        loss, info_nce(query, key, negatives, TEMPERATURE), rtol=1e-6, atol=0
    )


def test_column_0_is_the_own_key_and_an_excluded_candidate_is_minus_infinity() -> None:
    query, key, negatives = inputs()
    excluded = some_excluded()
    logits = info_nce_logits(query, key, negatives, TEMPERATURE, excluded)
    assert logits.shape == (N, 1 + M)
    own = torch.nn.functional.cosine_similarity(query, key) / TEMPERATURE
    torch.testing.assert_close(logits[:, 0], own)
    assert torch.equal(logits[:, 1:] == -torch.inf, excluded)


@pytest.mark.parametrize("num_negatives", [7, 255])
def test_random_inputs_give_about_the_log_of_the_number_of_candidates(num_negatives: int) -> None:
    width = 4096  # similarities are then about 1/64
    negatives = unit_length(randn(3, num_negatives, width))
    loss = info_nce(randn(1, 64, width), randn(2, 64, width), negatives, 1.0)
    assert loss.item() == pytest.approx(math.log(1 + num_negatives), abs=0.01)


def test_the_lengths_of_query_and_key_do_not_matter() -> None:
    query, key, negatives = inputs()
    lengths = torch.logspace(-3, 3, N, dtype=torch.float64)[:, None]
    scaled = info_nce(query * lengths, key / lengths, negatives, TEMPERATURE)
    torch.testing.assert_close(scaled, info_nce(query, key, negatives, TEMPERATURE))


def test_permuting_queries_and_keys_together_changes_nothing() -> None:
    query, key, negatives = inputs()
    order, excluded = torch.tensor([2, 0, 3, 1]), some_excluded()
    expected = info_nce(query, key, negatives, TEMPERATURE, excluded)
    permuted = info_nce(query[order], key[order], negatives, TEMPERATURE, excluded[order])
    torch.testing.assert_close(permuted, expected)
    apart = info_nce(query[order], key, negatives, TEMPERATURE, excluded[order])
    assert (apart - expected).abs() > 1e-2


def test_permuting_the_negatives_changes_nothing() -> None:
    query, key, negatives = inputs()
    order, excluded = torch.tensor([5, 1, 0, 4, 2, 3]), some_excluded()
    permuted = info_nce(query, key, negatives[order], TEMPERATURE, excluded[:, order])
    torch.testing.assert_close(permuted, info_nce(query, key, negatives, TEMPERATURE, excluded))


def test_the_gradient_is_right_and_finite_where_candidates_are_excluded() -> None:
    query, key, negatives = inputs()
    for excluded in (None, some_excluded(), torch.ones(N, M, dtype=torch.bool)):
        query.requires_grad_()
        assert torch.autograd.gradcheck(
            lambda q, e=excluded: info_nce(q, key, negatives, TEMPERATURE, e), (query,)
        )


def test_without_any_negative_there_is_nothing_to_tell_apart() -> None:
    query, key, negatives = inputs()
    everything = torch.ones(N, M, dtype=torch.bool)
    assert info_nce(query, key, negatives, TEMPERATURE, everything).item() == 0


def test_autocast_does_not_reach_the_logits() -> None:
    query, key, negatives = inputs(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = info_nce(query, key, negatives, TEMPERATURE)
    assert torch.equal(inside, info_nce(query, key, negatives, TEMPERATURE))

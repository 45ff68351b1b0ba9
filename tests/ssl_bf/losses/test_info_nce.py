"""Tests of ssl_bf.losses.info_nce."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from ssl_bf.losses import info_nce as module
from ssl_bf.losses.info_nce import Negatives, info_nce
from ssl_bf.losses.unit_length import unit_length

N, M, P = 4, 6, 5
TEMPERATURE = 0.3
QUERY_IDS, IDS = torch.tensor([1, 2, 3, 2]), torch.tensor([2, 5, 1, 2, 3, 1])
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def randn(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Query and key of any length, negatives of unit length."""
    negatives = unit_length(randn(3, M, P)).to(dtype)
    return 2 * randn(1, N, P, dtype=dtype), 3 * randn(2, N, P, dtype=dtype), negatives


def some_excluded(negatives: Tensor) -> list[Negatives]:
    return [Negatives(negatives, IDS, QUERY_IDS)]


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


def by_table(
    queries: Tensor, key: Tensor, negatives: list[Negatives], temperature: float
) -> Tensor:
    """The definition as torch has it, with every similarity at once; (A, N, P) -> (A,)."""
    losses = []
    for query in unit_length(queries):
        own = (query * unit_length(key)).sum(dim=1, keepdim=True)
        columns = [own]
        for keys, ids, query_ids in negatives:
            similar = query @ keys.T
            if ids is not None and query_ids is not None:
                similar = similar.masked_fill(query_ids[:, None] == ids, -torch.inf)
            columns.append(similar)
        first = torch.zeros(len(query), dtype=torch.long)
        losses.append(functional.cross_entropy(torch.cat(columns, dim=1) / temperature, first))
    return torch.stack(losses)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("excludes", [False, True])
def test_it_equals_the_definition_in_every_precision(dtype: torch.dtype, excludes: bool) -> None:
    query, key, negatives = inputs(dtype)
    given_negatives = some_excluded(negatives) if excludes else [Negatives(negatives)]
    loss = info_nce(query, key, given_negatives, TEMPERATURE)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    excluded = (QUERY_IDS[:, None] == IDS) & excludes
    expected = by_loops(query, key, negatives, excluded)
    # The inputs are rounded before both sides see them; what follows is float32 or wider.
    tolerance = 1e-13 if dtype == torch.float64 else 2e-6
    assert loss.item() == pytest.approx(expected, abs=tolerance)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, list[Negatives], float, int]:
    """Queries (A, N, P), key, one to three sets of negatives, temperature, similarities at once."""
    streams, rows, width = draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 8))
    seed = draw(st.integers(0, 2**31))
    negatives = []
    for number, count in enumerate(draw(st.lists(st.integers(1, 30), min_size=1, max_size=3))):
        keys = unit_length(randn(seed + 2 + number, count, width))
        names = torch.Generator().manual_seed(seed)
        ids, query_ids = (torch.randint(3, (n,), generator=names) for n in (count, rows))
        names_images = draw(st.booleans())
        negatives.append(Negatives(keys, ids, query_ids) if names_images else Negatives(keys))
    queries, key = randn(seed, streams, rows, width), randn(seed + 1, rows, width)
    temperature = draw(st.sampled_from([0.01, 0.07, 0.2, 1.0]))
    return queries, key, negatives, temperature, draw(st.integers(1, 100))


@settings(max_examples=80, deadline=None)
@given(cases())
def test_loss_and_gradient_equal_the_table_of_all_similarities_whatever_the_blocks(
    case: tuple[Tensor, Tensor, list[Negatives], float, int],
) -> None:
    queries, key, negatives, temperature, at_once = case
    weights = torch.arange(1.0, len(queries) + 1, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SIMILARITIES", {"cpu": at_once})
        ours, theirs = (queries.clone().requires_grad_() for _ in range(2))
        losses = info_nce(ours, key, negatives, temperature)
        expected = by_table(theirs, key, negatives, temperature)
        torch.testing.assert_close(losses, expected, rtol=1e-12, atol=1e-12)
        torch.autograd.backward([(losses * weights).sum(), (expected * weights).sum()])
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_float32_stays_as_close_to_float64_as_the_table_does(temperature: float) -> None:
    queries, key = randn(1, 2, 64, 32), randn(2, 64, 32)
    keys = unit_length(randn(3, 50_000, 32))  # 128 x 50,000 similarities: several blocks
    exact = queries.clone().requires_grad_()
    torch.autograd.backward(by_table(exact, key, [Negatives(keys)], temperature).sum())
    errors = []
    for loss in (info_nce, by_table):
        x = queries.float().requires_grad_()
        torch.autograd.backward(loss(x, key.float(), [Negatives(keys.float())], temperature).sum())
        assert x.grad is not None
        assert exact.grad is not None
        errors.append((x.grad - exact.grad).norm().item() / exact.grad.norm().item())
    assert errors[0] < max(2e-6, 2 * errors[1])


def test_float32_negatives_serve_float64_queries() -> None:
    query, key, negatives = inputs()
    loss = info_nce(query, key, [Negatives(negatives.float())], TEMPERATURE)
    expected = info_nce(query, key, [Negatives(negatives)], TEMPERATURE)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("num_negatives", [7, 255])
def test_random_inputs_give_about_the_log_of_the_number_of_candidates(num_negatives: int) -> None:
    width = 4096  # similarities are then about 1/64
    negatives = [Negatives(unit_length(randn(3, num_negatives, width)))]
    loss = info_nce(randn(1, 64, width), randn(2, 64, width), negatives, 1.0)
    assert loss.item() == pytest.approx(math.log(1 + num_negatives), abs=0.01)


def test_the_lengths_of_query_and_key_do_not_matter() -> None:
    query, key, negatives = inputs()
    lengths = torch.logspace(-3, 3, N, dtype=torch.float64)[:, None]
    scaled = info_nce(query * lengths, key / lengths, [Negatives(negatives)], TEMPERATURE)
    torch.testing.assert_close(scaled, info_nce(query, key, [Negatives(negatives)], TEMPERATURE))


def test_permuting_queries_and_keys_together_changes_nothing() -> None:
    query, key, negatives = inputs()
    order = torch.tensor([2, 0, 3, 1])
    expected = info_nce(query, key, some_excluded(negatives), TEMPERATURE)
    permuted = [Negatives(negatives, IDS, QUERY_IDS[order])]
    torch.testing.assert_close(info_nce(query[order], key[order], permuted, TEMPERATURE), expected)
    assert (info_nce(query[order], key, permuted, TEMPERATURE) - expected).abs() > 1e-2


def test_permuting_the_negatives_changes_nothing() -> None:
    query, key, negatives = inputs()
    order = torch.tensor([5, 1, 0, 4, 2, 3])
    permuted = info_nce(
        query, key, [Negatives(negatives[order], IDS[order], QUERY_IDS)], TEMPERATURE
    )
    torch.testing.assert_close(
        permuted, info_nce(query, key, some_excluded(negatives), TEMPERATURE)
    )


def test_the_gradient_reaches_the_queries_alone() -> None:
    query, key, negatives = (x.requires_grad_() for x in inputs())
    torch.autograd.backward(info_nce(query, key, some_excluded(negatives), TEMPERATURE))
    assert query.grad is not None
    assert query.grad.abs().amax(dim=1).min() > 1e-4
    assert key.grad is None
    assert negatives.grad is None


def test_the_queue_may_be_written_before_the_backward_pass() -> None:
    query, key, negatives = inputs()
    gradients = []
    for overwrites in (False, True):
        x, keys = query.clone().requires_grad_(), negatives.clone()
        loss = info_nce(x, key, [Negatives(keys)], TEMPERATURE)
        if overwrites:
            keys.zero_()
        gradients.append(torch.autograd.grad(loss, x)[0])
    assert torch.equal(*gradients)


def test_without_any_negative_there_is_nothing_to_tell_apart() -> None:
    query, key, negatives = inputs()
    query.requires_grad_()
    everything = [Negatives(negatives, torch.ones(M), torch.ones(N))]
    loss = info_nce(query, key, everything, TEMPERATURE)
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, query)[0].any()


def test_autocast_does_not_reach_the_logits() -> None:
    query, key, negatives = inputs(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = info_nce(query, key, [Negatives(negatives)], TEMPERATURE)
    assert torch.equal(inside, info_nce(query, key, [Negatives(negatives)], TEMPERATURE))

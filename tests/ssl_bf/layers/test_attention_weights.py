"""Tests of ssl_bf.layers.attention_weights, and of the weights of each kind of attention."""

import math

import pytest
import torch
from torch import Tensor, nn

from ssl_bf.layers import attention_weights
from ssl_bf.layers.attention_weights import attention
from ssl_bf.layers.self_attention import SelfAttention, UniformAttention
from ssl_bf.relations.bgformer import TopKAttention

D, HEADS = 8, 2


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kinds() -> list[SelfAttention]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = [SelfAttention(D, HEADS), UniformAttention(D, HEADS), TopKAttention(D, HEADS, 3)]
    return [each.double() for each in made]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: type(kind).__name__)
def test_the_weights_are_those_that_the_values_are_mixed_by(kind: SelfAttention) -> None:
    query, key, value = (randn(3, HEADS, 5, 4, seed=seed) for seed in range(3))
    mixed = kind.weights(query, key) @ value
    torch.testing.assert_close(kind.mix(query, key, value, 0.0, None), mixed)


def test_they_equal_the_frameworks() -> None:
    ours, rows = kinds()[0], randn(3, 5, D)
    theirs = nn.MultiheadAttention(D, HEADS, batch_first=True).double()
    theirs.load_state_dict(ours.state_dict())
    _, expected = theirs(rows, rows, rows, need_weights=True, average_attn_weights=False)
    torch.testing.assert_close(ours.attention(rows).weights, expected)


def test_rows_that_are_not_seen_have_no_weight_and_are_no_choice() -> None:
    rows, beside = randn(2, 3, D), randn(2, 4, D, seed=1)
    seen = torch.tensor([True, False, True, True, False, False, True])
    layer = kinds()[0].attention(rows, beside, seen)
    assert layer.weights.shape == (2, HEADS, 3, 7)
    assert float(layer.weights[..., ~seen].abs().max()) == 0
    torch.testing.assert_close(layer.weights.sum(dim=3), torch.ones(2, HEADS, 3).double())
    expected = layer.entropy.mean() / math.log(4)
    torch.testing.assert_close(layer.relative_entropy(), expected)


@pytest.mark.parametrize("group", [2, 8, 32, 33])
def test_the_entropy_of_equal_weights_is_the_log_of_their_number(group: int) -> None:
    layer = kinds()[1].attention(randn(2, group, D))
    torch.testing.assert_close(layer.entropy, torch.full_like(layer.entropy, math.log(group)))
    assert float(layer.relative_entropy()) == pytest.approx(1, abs=1e-14)


def test_attention_to_one_row_has_entropy_0_and_alone_it_is_no_choice() -> None:
    one = attention(torch.eye(4).expand(1, 2, 4, 4))
    assert float(one.entropy.abs().max()) == float(one.relative_entropy()) == 0
    assert math.isnan(float(attention(torch.ones(3, 2, 1, 1)).relative_entropy()))


@pytest.mark.parametrize("at_once", [1, 40, 10**6])
def test_positions_are_averaged_whether_or_not_they_fit_at_once(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_weights, "WEIGHTS_AT_ONCE", at_once)
    kind, positions, rows = kinds()[0], 7, randn(2 * 7, 4, D)
    together = kind.attention(rows, positions=positions)
    single = [kind.attention(rows[position::positions]) for position in range(positions)]
    assert together.weights.shape == (2, HEADS, 4, 4)
    for name in ("weights", "entropy"):
        expected = torch.stack([getattr(each, name) for each in single]).mean(dim=0)
        torch.testing.assert_close(getattr(together, name), expected)

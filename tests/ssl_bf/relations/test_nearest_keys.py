"""Tests of ssl_bf.relations.nearest_keys."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_bf.keyed_random import StepContext
from ssl_bf.losses.unit_length import unit_length
from ssl_bf.relations.nearest_keys import NearestKeysConfig
from ssl_bf.relations.relation import Relation
from ssl_bf.relations.surroundings import Samples

N, D = 6, 8
SAMPLES = Samples(torch.arange(N))
LATER = Samples(torch.arange(N) + 100), StepContext()


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(**keys: Any) -> Relation:
    config = NearestKeysConfig(**{"neighbours": 3, "memory": 12, **keys})
    relation = config.build(D, D, has_key_side=True).double()
    relation.keys(randn(N, D, seed=1), SAMPLES, StepContext(), 2)
    relation.after_step()
    return relation


def test_the_related_key_is_the_weighted_mean_of_the_nearest() -> None:
    relation, rows = build(temperature=0.3), randn(N, D)
    out = relation.keys(rows, *LATER, 1)
    assert torch.equal(out[0], rows)
    held = unit_length(randn(N, D, seed=1))
    for row in range(N):
        similar = held @ unit_length(rows[row])
        nearest = similar.argsort(descending=True)[:3]
        weights = (similar[nearest] / 0.3).softmax(dim=0)
        expected = rows[row].norm() * (weights @ held[nearest])
        torch.testing.assert_close(out[1, row], expected)


def test_one_neighbour_is_the_nearest_key_whatever_the_temperature() -> None:
    rows = randn(N, D)
    held = unit_length(randn(N, D, seed=1))
    expected = held[(unit_length(rows) @ held.T).argmax(dim=1)]
    for temperature in (0.01, 1.0):
        out = build(neighbours=1, temperature=temperature).keys(rows, *LATER, 1)[1]
        torch.testing.assert_close(unit_length(out), expected)


def test_queries_are_plain_and_a_key_without_neighbours_stays() -> None:
    relation, rows = build(), randn(N, D)
    assert len(relation.queries(rows, *LATER, 1)) == 1
    fresh = NearestKeysConfig(memory=12).build(D, D, has_key_side=True).double()
    assert torch.equal(fresh.keys(rows, SAMPLES, StepContext(), 1)[1], rows)


def test_it_owns_no_parameter_and_passes_no_gradient() -> None:
    relation, rows = build(), randn(N, D).requires_grad_()
    assert not list(relation.parameters())
    assert not relation.may_be_constant
    (gradient,) = torch.autograd.grad(relation.keys(rows, *LATER, 1)[1].sum() + rows.sum(), rows)
    assert torch.equal(gradient, torch.ones_like(rows))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"pairs": "all"}, "pairs: nearest_keys has no related queries"),
        ({"pairs": ((1.0, 0.0), (1.0, 0.0))}, "pairs: nearest_keys has no related queries"),
        ({"temperature": 0.0}, "temperature: must be > 0"),
        ({"neighbours": 0}, "neighbours: must be >= 1"),
        ({"neighbours": 9, "memory": 8}, "neighbours: must be at most memory"),
    ],
)
def test_values_without_meaning_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        NearestKeysConfig(**keys)

"""Tests of ssl_bf.relations.no_relation."""

import pytest
import torch

from ssl_bf.keyed_random import StepContext
from ssl_bf.relations.no_relation import NoRelationConfig
from ssl_bf.relations.surroundings import Samples


@pytest.mark.parametrize("side", ["queries", "keys"])
@pytest.mark.parametrize("training", [True, False])
def test_there_is_one_stream_and_it_is_the_features(side: str, training: bool) -> None:
    relation = NoRelationConfig().build(8, 4, has_key_side=True).train(training)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    streams = getattr(relation, side)(x, Samples(torch.arange(len(x))), StepContext(), 1)
    assert streams.shape == (1, 6, 4)
    assert torch.equal(streams[0], x)


def test_it_owns_nothing_and_moves_nothing() -> None:
    relation = NoRelationConfig().build(8, 4, has_key_side=True)
    assert relation.relating is None
    assert dict(relation.state_dict()) == {}
    assert relation.slow_pairs() == []
    assert not relation.may_be_constant


def test_it_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    relation = NoRelationConfig().build(8, 4, has_key_side=True)
    relation.queries(torch.ones(6, 4), Samples(torch.arange(6)), StepContext(), 1)
    assert torch.equal(torch.get_rng_state(), before)

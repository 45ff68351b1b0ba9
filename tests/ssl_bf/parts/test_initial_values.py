"""Tests of ssl_bf.parts.initial_values."""

import pytest
import torch
from torch import Tensor, nn

from ssl_bf.parts.initial_values import initial_values


def drawn(seed: int, part: str) -> Tensor:
    with initial_values(seed, part):
        return nn.Linear(3, 4).weight.detach()


def test_values_depend_on_the_seed_and_the_part_alone() -> None:
    first = drawn(0, "projector")
    with torch.random.fork_rng():
        torch.manual_seed(12345)
        torch.randn(7)
        assert torch.equal(drawn(0, "projector"), first)
    assert not torch.equal(drawn(0, "relation"), first)
    assert not torch.equal(drawn(1, "projector"), first)


def test_another_part_in_between_changes_nothing() -> None:
    alone = drawn(3, "projector")
    drawn(3, "relation")
    assert torch.equal(drawn(3, "projector"), alone)


def test_the_global_generator_goes_on_as_if_nothing_had_happened() -> None:
    before = torch.get_rng_state()
    drawn(0, "projector")
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(RuntimeError, match="boom"), initial_values(0, "projector"):
        torch.randn(5)
        raise RuntimeError("boom")
    assert torch.equal(torch.get_rng_state(), before)

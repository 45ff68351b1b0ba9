"""Tests of ssl_bf.parts.slow_copy."""

import copy

import pytest
import torch
from torch import nn

from ssl_bf.parts.initial_values import initial_values
from ssl_bf.parts.slow_copy import SlowCopies, make_slow_copy


def network(seed: int) -> nn.Sequential:
    with initial_values(seed, "network"):
        network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        for parameter in network.parameters():  # BatchNorm starts with the same values everywhere
            nn.init.normal_(parameter)
    network(torch.randn(5, 3, generator=torch.Generator().manual_seed(seed)))
    return network.double()


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.5, 0.9, 0.999, 1.0])
def test_every_parameter_is_the_weighted_mean_of_old_and_fast(momentum: float) -> None:
    slow, fast = make_slow_copy(network(0)), network(1)
    old, source = copy.deepcopy(slow), copy.deepcopy(fast)
    SlowCopies([(slow, fast)]).move(momentum)
    for new, a, b in zip(slow.parameters(), old.parameters(), source.parameters(), strict=True):
        torch.testing.assert_close(new, (momentum * a + (1 - momentum) * b).detach())
        assert not torch.equal(a, b)
    for now, before in zip(fast.parameters(), source.parameters(), strict=True):
        assert torch.equal(now, before)


@pytest.mark.parametrize(("momentum", "expected_seed"), [(1.0, 0), (0.0, 1)])
def test_momentum_1_freezes_and_0_copies_to_the_bit(momentum: float, expected_seed: int) -> None:
    slow = make_slow_copy(network(0))
    SlowCopies([(slow, network(1))]).move(momentum)
    expected = network(expected_seed)
    for p, q in zip(slow.parameters(), expected.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("momentum", [0.3, 0.999, 1.0])
def test_a_tensor_moves_as_its_number_does(
    momentum: float, memory_format: torch.memory_format
) -> None:
    with initial_values(0, "network"):
        fast = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2)).to(memory_format=memory_format)
        other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2))
    moved = []
    for each in (momentum, torch.tensor(momentum)):
        slow = make_slow_copy(fast)
        slow.load_state_dict(other.state_dict())
        SlowCopies([(slow, fast)]).move(each)
        moved.append(dict(slow.state_dict()))
    torch.testing.assert_close(moved[1], moved[0], rtol=1e-6, atol=1e-7)
    assert torch.equal(moved[1]["1.weight"], other.state_dict()["1.weight"]) == (momentum == 1.0)


def test_buffers_are_the_copys_own() -> None:
    slow = make_slow_copy(network(0))
    before = {name: buffer.clone() for name, buffer in slow.named_buffers()}
    SlowCopies([(slow, network(1))]).move(0.5)
    torch.testing.assert_close(dict(slow.named_buffers()), before, rtol=0, atol=0)


def test_several_pairs_move_in_one_call() -> None:
    slow = [make_slow_copy(network(seed)) for seed in (0, 1)]
    fast = [network(seed) for seed in (2, 3)]
    SlowCopies(zip(slow, fast, strict=True)).move(0.0)
    for s, f in zip(slow, fast, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(s.parameters(), f.parameters(), strict=True))


def test_a_copy_starts_equal_shares_nothing_and_never_trains() -> None:
    module = network(0)
    slow = make_slow_copy(module)
    torch.testing.assert_close(dict(slow.state_dict()), dict(module.state_dict()), rtol=0, atol=0)
    pointers = {tensor.data_ptr() for tensor in module.state_dict().values()}
    assert not pointers & {tensor.data_ptr() for tensor in slow.state_dict().values()}
    assert not any(p.requires_grad for p in slow.parameters())
    assert all(p.requires_grad for p in module.parameters())


def test_moving_leaves_no_graph() -> None:
    slow, fast = make_slow_copy(network(0)), network(1)
    SlowCopies([(slow, fast)]).move(0.9)
    assert all(p.grad_fn is None and not p.requires_grad for p in slow.parameters())


def test_no_pair_and_no_parameter_are_fine() -> None:
    SlowCopies([]).move(0.9)
    SlowCopies([(nn.ReLU(), nn.ReLU())]).move(0.9)


def test_unequal_structures_are_refused() -> None:
    with pytest.raises(AssertionError, match=r"\(6, 2\)"):
        SlowCopies([(network(0), nn.Linear(3, 4))]).move(0.9)

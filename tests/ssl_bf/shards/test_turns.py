"""Tests of ssl_bf.shards.turns: in one process, that holds all shards."""

import threading

import pytest
import torch
from torch import Tensor

from ssl_bf.layers.all_reduce import all_reduce_sum
from ssl_bf.parts.gathered_rows import gather_rows
from ssl_bf.shards.shard import all_gather_rows, num_shards, shard_number
from ssl_bf.shards.turns import HeldShards

COUNT = 3


def test_each_knows_its_number_and_gathers_in_order() -> None:
    def work(place: int) -> tuple[int, int, Tensor]:
        rows = all_gather_rows(torch.tensor([place, 10 * place]))
        rows = all_gather_rows(rows[:1] + place)
        return shard_number(), num_shards(), rows

    for place, (number, count, rows) in enumerate(HeldShards(COUNT).each(work)):
        assert (number, count) == (place, COUNT)
        assert rows.tolist() == [0, 1, 2]


def test_they_compute_one_at_a_time_and_each_has_its_own_random_numbers() -> None:
    busy = threading.Lock()

    def work(place: int) -> list[Tensor]:
        torch.manual_seed(place)
        drawn = []
        for _ in range(3):
            assert busy.acquire(blocking=False), "two compute at once"
            drawn.append(torch.rand(2))
            busy.release()
            all_gather_rows(drawn[-1])
        return drawn

    for place, drawn in enumerate(HeldShards(COUNT).each(work)):
        torch.manual_seed(place)
        assert torch.equal(torch.stack(drawn), torch.stack([torch.rand(2) for _ in range(3)]))


@pytest.mark.parametrize("gather", [gather_rows, lambda x: all_reduce_sum(x).square()])
def test_gradients_pass_between_shards(gather: object) -> None:
    assert callable(gather)
    everything = torch.randn(COUNT, 2, 4, dtype=torch.float64)

    def work(place: int) -> Tensor:
        x = everything[place].clone().requires_grad_()
        loss = (gather(x).sin() * (place + 1)).sum()
        torch.autograd.backward(loss)
        assert x.grad is not None
        return x.grad

    found = torch.stack(HeldShards(COUNT).each(work))
    x = everything.clone().requires_grad_()
    all_rows = x.flatten(0, 1) if gather is gather_rows else x.sum(dim=0).square()
    torch.autograd.backward([(all_rows.sin() * (n + 1)).sum() for n in range(COUNT)])
    assert x.grad is not None
    torch.testing.assert_close(found, x.grad)


def test_what_one_raises_ends_all_and_leaves_no_thread() -> None:
    before, ended = threading.active_count(), []

    def work(place: int) -> None:
        try:
            all_gather_rows(torch.ones(1))
            if place == 1:
                raise ValueError("number 1")
            all_gather_rows(torch.ones(1))
        finally:
            ended.append(place)

    with pytest.raises(ValueError, match="number 1"):
        HeldShards(COUNT).each(work)
    assert sorted(ended) == [0, 1, 2]
    assert threading.active_count() == before


def test_shards_that_part_company_are_noticed() -> None:
    def work(place: int) -> None:
        if place:
            all_gather_rows(torch.ones(1))

    with pytest.raises(AssertionError, match="some shards gather"):
        HeldShards(COUNT).each(work)

"""Tests of ssl_bf.shards.shard."""

import torch

from ssl_bf.shards.shard import (
    Shard,
    add_in_order,
    all_gather_rows,
    computing,
    num_shards,
    shard_number,
    sum_over_shards,
)


def test_without_a_word_the_process_is_the_shard() -> None:
    x = torch.ones(2, 3)
    assert (shard_number(), num_shards()) == (0, 1)
    assert all_gather_rows(x) is x
    assert torch.equal(sum_over_shards(x), x)
    assert sum_over_shards(x) is not x


def test_a_shard_is_asked_for_what_the_others_have() -> None:
    x = torch.arange(6.0).reshape(2, 3).requires_grad_()
    shard = Shard(1, 3, lambda own: torch.stack([own + 10, own, own + 20]))
    with computing(shard):
        assert (shard_number(), num_shards()) == (1, 3)
        rows, total = all_gather_rows(x), sum_over_shards(x)
    assert torch.equal(rows, torch.cat([x + 10, x, x + 20]))
    assert torch.equal(total, 3 * x + 30)
    assert not rows.requires_grad and not total.requires_grad
    assert num_shards() == 1


def test_numbers_are_added_one_after_another() -> None:
    # 1 is lost beside 1e8 in float32, unless the large ones have cancelled before
    assert add_in_order(torch.tensor([1e8, 1.0, -1e8])).item() == 0.0
    assert add_in_order(torch.tensor([1e8, -1e8, 1.0])).item() == 1.0

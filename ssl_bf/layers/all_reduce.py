"""A sum over all shards of the batch that passes gradients on."""

from typing import Any

import torch
from torch import Tensor

from ssl_bf.shards.shard import num_shards, sum_over_shards


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum over all shards, element by element, with gradient; for one shard `x` itself.

    The gradient is that of the sum of all shards' losses: `x` of this shard is a part of the result
    of every shard.
    """
    if num_shards() == 1:
        return x
    summed: Tensor = _AllReduceSum.apply(x)
    return summed


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        return sum_over_shards(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        del ctx
        return all_reduce_sum(gradients[0])

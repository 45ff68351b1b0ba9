"""Rows of all processes with their gradient: what one process would have had together.

Shapes: N rows of this process, W processes.
"""

from typing import Any

import torch
from torch import Tensor

from ssl_bf.layers.all_reduce import all_reduce_sum
from ssl_bf.parts.gathered_keys import own_keys
from ssl_bf.shards.shard import all_gather_rows, num_shards


def gather_rows(x: Tensor) -> Tensor:
    """(N, ...) -> (W * N, ...) in rank order; for one process `x` itself.

    The gradient is that of the sum of all processes' losses: every process may use every row.
    """
    if num_shards() == 1:
        return x
    rows: Tensor = _GatherRows.apply(x)
    return rows


def rows_of_others(x: Tensor) -> Tensor:
    """(N, ...) -> ((W - 1) * N, ...): those of the other processes, with gradient."""
    rows, own = gather_rows(x), own_keys(len(x))
    return torch.cat([rows[: own.start], rows[own.stop :]])


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.own = own_keys(len(x))
        return all_gather_rows(x).clone()  # what is gathered belongs to all shards

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return all_reduce_sum(gradients[0])[ctx.own]

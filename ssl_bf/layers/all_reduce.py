"""A sum over all processes that passes gradients on."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from linear_eval.system.distributed import world_size


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum over all processes, element by element, with gradient; for one process `x` itself.

    The gradient is that of the sum of all processes' losses: `x` of this process is a part of
    the result of every process.
    """
    if world_size() == 1:
        return x
    summed: Tensor = _AllReduceSum.apply(x)
    return summed


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        summed = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        del ctx
        return all_reduce_sum(gradients[0])

"""Which shard of the batch is being computed, and what it gathers of the others.

What BatchNorm, a relation with `context: local` or a shuffle sees is the rows of one shard. As long
as nobody says otherwise, each process is one shard. Shapes: N rows of a shard, T shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from linear_eval.system import distributed


@dataclass(frozen=True, eq=False)
class Shard:
    """One share of the batch.

    Attributes:
        number: in [0, count).
        count: T.
        gather: (...) of this shard to (T, ...) of all of them; every shard calls it, in the same
            order of calls.
    """

    number: int
    count: int
    gather: Callable[[Tensor], Tensor]


_CURRENT: ContextVar[Shard | None] = ContextVar("shard", default=None)


@contextmanager
def computing(shard: Shard) -> Iterator[None]:
    """Inside, in this thread, `shard` is the one that is computed."""
    token = _CURRENT.set(shard)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def shard_number() -> int:
    """Of the shard that is computed."""
    current = _CURRENT.get()
    return distributed.rank() if current is None else current.number


def num_shards() -> int:
    """T, the shards of a batch."""
    current = _CURRENT.get()
    return distributed.world_size() if current is None else current.count


def all_gather_rows(x: Tensor) -> Tensor:
    """Put the rows of all shards together, in their order.

    Args:
        x: (N, ...); every shard must hold the same shape.

    Returns:
        (T * N, ...), without gradient, which nobody may change. For one shard `x` itself.
    """
    current = _CURRENT.get()
    if current is None:
        return distributed.all_gather_rows(x)
    return x if current.count == 1 else current.gather(x.detach()).flatten(0, 1)


def sum_over_shards(x: Tensor) -> Tensor:
    """Sum over all shards, element by element and without gradient; a new tensor.

    One process per shard adds as its backend likes. Else it is in the order of the shards, which
    does not depend on who holds them.
    """
    current = _CURRENT.get()
    if current is not None:
        return add_in_order(current.gather(x.detach()))
    summed = x.detach().clone(memory_format=torch.contiguous_format)
    if distributed.is_distributed():
        torch.distributed.all_reduce(summed)
    return summed


def add_in_order(parts: Tensor) -> Tensor:
    """(T, ...) -> (...), a new tensor: the first, plus the second, plus the third."""
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total

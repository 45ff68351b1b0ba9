"""Gradients of all shards of a batch, made one.

Shapes: T shards, L numbers of a bucket.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from linear_eval.system.distributed import all_gather_rows
from ssl_bf.layers.all_reduce import all_reduce_sum
from ssl_bf.shards.shard import add_in_order

BUCKET = 2**22  # numbers that are sent at once; `ordered` holds them for every shard


@torch.no_grad()
def average(own: Sequence[Sequence[Tensor]], count: int, *, is_ordered: bool) -> None:
    """Leave in the gradients of the first shard held the mean over all shards.

    Args:
        own: of each shard held, its gradients in one order.
        count: T, held by all processes together.
        is_ordered: add in the order of the shards, whoever holds them: the bits are then the same
            on any number of processes. False: this process adds its own, the backend the rest.
    """
    for bucket in _buckets(own[0]):
        flat = torch.stack([torch.cat([g[i].reshape(-1) for i in bucket]) for g in own])
        if is_ordered:
            total = add_in_order(all_gather_rows(flat))
        else:
            total = all_reduce_sum(flat.sum(dim=0))
        total /= count
        into = [own[0][i] for i in bucket]
        for gradient, mean in zip(into, total.split([g.numel() for g in into]), strict=True):
            gradient.copy_(mean.view(gradient.shape))


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[int]]:
    """Their places, in runs of about so many numbers."""
    places, numbers = [], 0
    for place, gradient in enumerate(gradients):
        places.append(place)
        numbers += gradient.numel()
        if numbers >= BUCKET:
            yield places
            places, numbers = [], 0
    if places:
        yield places

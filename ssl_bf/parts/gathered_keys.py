"""Keys of all devices, gathered once: a query's own, its negatives and the queue's new ones.

Shapes: N local batch, W devices, P projection width.
"""

import torch
from torch import Tensor

from ssl_bf.shards.shard import all_gather_rows, shard_number


def gather_keys(keys: Tensor, order: Tensor | None = None) -> Tensor:
    """Put the keys of all devices together in the order of the images.

    Args:
        keys: (..., N, P) of this device, the same shape on every device.
        order: (W * N,) in which `shuffle_rows` dealt the images, or None where it did not.

    Returns:
        (..., W * N, P); no gradient passes.
    """
    rows = all_gather_rows(keys.movedim(-2, 0))  # (W * N, ..., P)
    if order is not None:
        place = order.to(rows.device, non_blocking=True)
        rows = torch.empty_like(rows).index_copy_(0, place, rows)
    return rows.movedim(0, -2)


def own_keys(count: int) -> slice:
    """Where the `count` rows of this device stand among those of all devices."""
    return slice(shard_number() * count, (shard_number() + 1) * count)

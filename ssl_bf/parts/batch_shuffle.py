"""ShuffleBN: keys are computed in another composition of the per-device batches than queries.

Without it, BatchNorm statistics leak which images share a device (He et al. 2020, section 3.3).
"""

import torch
from torch import Tensor

from linear_eval.distributed import all_gather_rows, rank


def shuffle_rows(rows: Tensor, order: Tensor) -> Tensor:
    """Deal the global batch anew: this device receives its share of `order`.

    Args:
        rows: (N, ...) of this device.
        order: (W * N,) the same permutation on every device.

    Returns:
        (N, ...) rows of the global batch.
    """
    return all_gather_rows(rows)[order.to(rows.device)[_own_share(len(rows))]]


def unshuffle_rows(rows: Tensor, order: Tensor) -> Tensor:
    """Undo `shuffle_rows` for what was computed from its result; (N, ...) -> (N, ...)."""
    place_of_image = torch.argsort(order.to(rows.device))
    return all_gather_rows(rows)[place_of_image[_own_share(len(rows))]]


def _own_share(count: int) -> slice:
    return slice(rank() * count, (rank() + 1) * count)

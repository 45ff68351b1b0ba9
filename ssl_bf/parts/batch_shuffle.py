"""ShuffleBN: keys are computed in another composition of the per-device batches than queries.

Without it, BatchNorm statistics leak which images share a device (He et al. 2020, section 3.3).
`gather_keys` brings the keys back to their images.
"""

from torch import Tensor

from ssl_bf.parts.gathered_keys import own_keys
from ssl_bf.shards.shard import all_gather_rows


def shuffle_rows(rows: Tensor, order: Tensor) -> Tensor:
    """Deal the global batch anew: this device receives its share of `order`.

    Args:
        rows: (N, ...) of this device.
        order: (W * N,) the same permutation on every device.

    Returns:
        (N, ...) rows of the global batch.
    """
    own = order[own_keys(len(rows))].to(rows.device, non_blocking=True)
    return all_gather_rows(rows).index_select(0, own)

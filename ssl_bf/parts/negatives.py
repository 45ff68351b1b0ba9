"""Candidates that a query must not pick: keys of the batch, keys of the queue.

Shapes: N local batch, W devices, K queue rows, P projection width.
"""

import torch
from torch import Tensor

from ssl_bf.losses.info_nce import Negatives
from ssl_bf.parts.gathered_keys import own_keys
from ssl_bf.parts.key_queue import KeyQueue


def batch_negatives(keys: Tensor, count: int) -> Negatives:
    """Keys (W * N, P) of one stream on all devices; each but the query's own is a negative.

    `count` is N, the queries of this device.
    """
    row = torch.arange(len(keys), device=keys.device)
    return Negatives(keys, ids=row, query_ids=row[own_keys(count)])


def queued_negatives(queue: KeyQueue, image_ids: Tensor | None) -> Negatives:
    """Queued keys (K, P); those that show the query's image are no negatives.

    `image_ids` is (N,), or None when keys of the same image may serve as negatives (as published).
    """
    if image_ids is None:
        return Negatives(queue.keys)
    return Negatives(queue.keys, ids=queue.image_ids, query_ids=image_ids)

"""Candidates that a query must not pick: keys of the batch, keys of the queue.

Shapes: N local batch, W devices, K queue rows, P projection width.
"""

import torch
from torch import Tensor

from linear_eval.distributed import all_gather_rows, rank
from ssl_bf.parts.key_queue import KeyQueue


def batch_negatives(key: Tensor) -> tuple[Tensor, Tensor]:
    """Keys (W * N, P) of one stream on all devices, and which of them is a query's own (N, W * N).

    `key` is (N, P), of this device; no gradient passes through the gather.
    """
    gathered = all_gather_rows(key.contiguous())
    own_column = torch.arange(len(key), device=key.device) + rank() * len(key)
    column = torch.arange(len(gathered), device=key.device)
    return gathered, column[None, :] == own_column[:, None]


def queued_negatives(queue: KeyQueue, image_ids: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Queued keys (K, P), and which of them show the query's image (N, K).

    `image_ids` is (N,), or None when keys of the same image may serve as negatives (as published).
    """
    if image_ids is None:
        return queue.keys, None
    return queue.keys, image_ids[:, None] == queue.image_ids[None, :]

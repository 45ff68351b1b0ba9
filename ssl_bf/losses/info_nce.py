"""InfoNCE: tell a query's own key from negatives, without a table of all similarities.

Shapes: A query streams, N local batch, M negatives, P projection width, R = A * N rows.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ssl_bf.losses.unit_length import unit_length

# Similarities held at a time: on the CPU they stay in the cache, on a GPU few kernels are launched.
SIMILARITIES = {"cpu": 2**20, "cuda": 2**26}


class Negatives(NamedTuple):
    """Keys that queries are contrasted with: queued ones, or those of the batch on all devices.

    Where ids are given, a key is no negative of a query with the same id (it is the query's own
    key, or an older key of the same image).
    """

    keys: Tensor  # (M, P) unit length
    ids: Tensor | None = None  # (M,) int64
    query_ids: Tensor | None = None  # (N,) int64


def info_nce(
    queries: Tensor, key: Tensor, negatives: Sequence[Negatives], temperature: float
) -> Tensor:
    """Cross-entropy of picking each query's own key among all candidates.

    Args:
        queries: (A, N, P) or (N, P), any length; normalised here. The gradient flows here only.
        key: (N, P), any length; row i belongs to query i of every stream.
        negatives: one or more sets of them, of any size each.
        temperature: > 0; cosine similarities are divided by it.

    Returns:
        (A,), or a scalar for (N, P): means over N, in nats, float32 or wider. About log(number of
        candidates) for random inputs.

    Source: He et al. 2020, eq. 1 (arXiv 1911.05722).
    Differs: MoCo v3 also multiplies by 2 * temperature; the caller does that.
    """
    with torch.autocast(queries.device.type, enabled=False):
        losses: Tensor = _LossPerRow.apply(
            unit_length(queries), unit_length(key.detach()), negatives, temperature
        )
        return losses.mean(dim=-1)


class _LossPerRow(torch.autograd.Function):
    """log(sum of exp(s)) - s of the own key; the gradient is found on the way.

    The gradient of a row is (mean key, weighted by softmax - own key) / temperature. Sum and mean
    need the same exponentials, so both are updated block by block, relative to the largest logit
    so far (the scheme of Milakov & Gimelshein 2018, arXiv 1805.02867). Nothing of the size of the
    negatives is kept for the backward pass, which therefore may follow a write to the queue.
    """

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, key: Tensor, negatives: Sequence[Negatives], temperature: float
    ) -> Tensor:
        own = key.expand_as(queries).flatten(0, -2)
        rows = queries.flatten(0, -2) / temperature  # (R, P)
        positive = (rows * own).sum(dim=1, keepdim=True)  # (R, 1)
        largest, total, mean_key = positive, torch.ones_like(positive), own
        for keys, excluded in _blocks(negatives, rows):
            logits = rows @ keys.T
            if excluded is not None:
                logits.masked_fill_(excluded, -torch.inf)
            new_largest = torch.maximum(largest, logits.amax(dim=1, keepdim=True))
            weights = logits.sub_(new_largest).exp_()
            shrink = (largest - new_largest).exp_()
            total = total * shrink + weights.sum(dim=1, keepdim=True)
            mean_key = torch.addmm(mean_key * shrink, weights, keys)
            largest = new_largest
        gradient = (mean_key / total - own) / temperature
        ctx.save_for_backward(gradient.view_as(queries))
        return (largest + total.log() - positive).view(queries.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return upstream.unsqueeze(-1) * gradient, None, None, None


def _blocks(negatives: Sequence[Negatives], rows: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Keys (B, P) in the type of `rows` (R, P), and which of them are excluded (R, B)."""
    size = max(1, SIMILARITIES[rows.device.type] // len(rows))
    for keys, ids, query_ids in negatives:
        for start in range(0, len(keys), size):
            block, excluded = slice(start, start + size), None
            if ids is not None and query_ids is not None:
                of_row = query_ids.repeat(len(rows) // len(query_ids))  # (R,), stream by stream
                excluded = of_row[:, None] == ids[block]
            yield keys[block].to(rows.dtype), excluded

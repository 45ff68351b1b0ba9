"""Monitoring values of a step: is the representation collapsing, does a stream know its batch?"""

import torch
from torch import Tensor

from ssl_bf.losses.unit_length import unit_length


@torch.no_grad()
def feature_std(projections: Tensor) -> dict[str, float]:
    """`feature_std/stream_s`: channel standard deviation of unit-length rows, times sqrt(P).

    About 1 when the rows spread over the sphere, 0 when they have collapsed. `projections` is
    (S, N, P). Source: SimSiam, figure 2 (arXiv 2011.10566).
    """
    spread = unit_length(projections).std(dim=1).mean(dim=1) * projections.shape[2] ** 0.5
    return {f"feature_std/stream_{s}": value for s, value in enumerate(spread.tolist())}


@torch.no_grad()
def context_gap(queries: Tensor, keys: Tensor, queued: Tensor) -> dict[str, float]:
    """`context_gap/stream_s` of each query stream.

    Mean similarity to the other keys of the batch minus mean similarity to queued keys. A large
    gap means that the stream recognises its batch instead of the image.

    Args:
        queries: (S, N, P), any length.
        keys: (N, P) plain keys of the same images, unit length.
        queued: (K, P) unit length.
    """
    gaps = {}
    for s, query in enumerate(unit_length(queries)):
        similar = query @ keys.to(query.dtype).T  # (N, N); the diagonal is the own key
        others = (similar.sum() - similar.trace()) / (similar.numel() - len(similar))
        gaps[f"context_gap/stream_{s}"] = (
            others - (query @ queued.to(query.dtype).T).mean()
        ).item()
    return gaps

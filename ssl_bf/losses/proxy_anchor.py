"""Proxy-Anchor: each class has a trained proxy that pulls its images and pushes the others.

Shapes: S streams, N batch, P projection width, C classes.
"""

import torch
from torch import Tensor

from ssl_bf.losses.unit_length import unit_length


def proxy_anchor(
    rows: Tensor, labels: Tensor, proxies: Tensor, *, scale: float, margin: float
) -> Tensor:
    """Two sums over the proxies, each of a log of 1 + a sum of exponentials.

    (1 / |P+|) sum over p in P+ of log(1 + sum over x of p exp(-scale (cos(x, p) - margin)))
    + (1 / C) sum over p of log(1 + sum over x not of p exp(scale (cos(x, p) + margin))),
    P+ the proxies that have a row in the batch.

    Args:
        rows: (S, N, P) or (N, P), any length; normalised here.
        labels: (N,) int64 in [0, C).
        proxies: (C, P), any length; the gradient flows here too.
        scale: > 0.
        margin: >= 0, of the cosine.

    Returns:
        (S,), or a scalar for (N, P): float32 or wider.

    Source: Kim et al. 2020, eq. 4 (arXiv 2003.13911).
    """
    with torch.autocast(rows.device.type, enabled=False):
        cosine = unit_length(rows) @ unit_length(proxies).T  # (S, N, C)
        is_own = labels[:, None] == torch.arange(len(proxies), device=labels.device)
        pull = (-scale * (cosine - margin)).masked_fill(~is_own, -torch.inf).logsumexp(dim=-2)
        push = (scale * (cosine + margin)).masked_fill(is_own, -torch.inf).logsumexp(dim=-2)
        there = is_own.any(dim=0)
        others = ~is_own.all(dim=0)
        one = cosine.new_zeros(())  # in the logarithm; softplus would round from 20 on
        pulled = torch.logaddexp(pull.masked_fill(~there, 0), one) * there
        pushed = torch.logaddexp(push.masked_fill(~others, 0), one) * others
        return pulled.sum(dim=-1) / there.sum() + pushed.mean(dim=-1)

"""InfoNCE: tell a query's own key from negatives.

Shapes: N local batch, M negatives, P projection width.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ssl_bf.losses.unit_length import unit_length


def info_nce(
    query: Tensor,
    key: Tensor,
    negatives: Tensor,
    temperature: float,
    excluded: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of picking each query's own key among all candidates.

    Args:
        query: (N, P), any length; normalised here. The gradient flows here.
        key: (N, P), row i belongs to query i; comes without gradient.
        negatives: (M, P) unit length: queued keys, the keys of the batch on all devices, or both.
        temperature: > 0; cosine similarities are divided by it.
        excluded: (N, M) boolean or None; True where a candidate is no negative of that query
            (its own key, or an older key of the same image).

    Returns:
        Scalar, mean over N, in nats. About log(number of candidates) for random inputs.

    Source: He et al. 2020, eq. 1 (arXiv 1911.05722).
    Differs: MoCo v3 also multiplies by 2 * temperature; the caller does that.
    """
    logits = info_nce_logits(query, key, negatives, temperature, excluded)
    own_key = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    return functional.cross_entropy(logits, own_key)


def info_nce_logits(
    query: Tensor,
    key: Tensor,
    negatives: Tensor,
    temperature: float,
    excluded: Tensor | None = None,
) -> Tensor:
    """Similarities over temperature, (N, 1 + M) float32 or wider; column 0 is the own key."""
    with torch.autocast(query.device.type, enabled=False):
        query, key = unit_length(query), unit_length(key)
        positive = (query * key).sum(dim=1, keepdim=True)  # (N, 1)
        negative = query @ negatives.to(query.dtype).T  # (N, M)
        if excluded is not None:
            negative = negative.masked_fill(excluded, -torch.inf)
        return torch.cat([positive, negative], dim=1) / temperature

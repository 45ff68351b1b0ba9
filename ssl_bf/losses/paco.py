"""PaCo's loss: images of a class and the class's own centre, in one softmax over all of them.

Shapes: S streams, N batch, M other rows, P projection width, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ssl_bf.losses.unit_length import full_precision, unit_length


class Others(NamedTuple):
    """Rows that queries are compared with.

    Attributes:
        rows: (M, P) any length; the gradient flows here too.
        labels: (M,) int64, -1 for rows that show no image.
        own: (N,) int64, which of them is the query itself: it does not count.
    """

    rows: Tensor
    labels: Tensor
    own: Tensor


def paco(
    queries: Tensor,
    class_logits: Tensor,
    labels: Tensor,
    others: Others,
    *,
    temperature: float,
    image_weight: float,
    class_weight: float,
) -> Tensor:
    """Cross-entropy with the classes and the other rows as candidates, and many right ones.

    With p the softmax over C class logits and the cosines to all others over the temperature, and
    P(i) the others of the label y_i, a query costs
    -(class_weight log p(y_i) + image_weight sum over j in P(i) of log p(j))
    / (class_weight + image_weight |P(i)|).

    Args:
        queries: (S, N, P) or (N, P), any length.
        class_logits: (S, N, C) or (N, C), the prior of the classes included.
        labels: (N,) int64 in [0, C).
        others: what else the queries are compared with.
        temperature: > 0.
        image_weight: >= 0, alpha in the paper.
        class_weight: > 0, beta in the paper.

    Returns:
        (S,), or a scalar: means over N, in nats, float32 or wider.

    Source: Cui et al. 2021, eq. 8 (arXiv 2107.12028); dvlab-research/Parametric-Contrastive-
    Learning fe56535, LT/losses.py.
    """
    with torch.autocast(queries.device.type, enabled=False):
        similar = unit_length(queries) @ unit_length(others.rows).T / temperature  # (S, N, M)
        is_own = others.own[:, None] == torch.arange(len(others.rows), device=labels.device)
        logits = full_precision(class_logits).to(similar)
        both = torch.cat([logits, similar.masked_fill(is_own, -torch.inf)], dim=-1)
        total = both.logsumexp(dim=-1)
        positive = (labels[:, None] == others.labels) & ~is_own  # (N, M)
        own_class = labels.expand(logits.shape[:-1])[..., None]
        of_class = total - logits.gather(-1, own_class).squeeze(-1)
        of_images = ((total[..., None] - similar) * positive).sum(dim=-1)
        weight = class_weight + image_weight * positive.sum(dim=1)
        return ((class_weight * of_class + image_weight * of_images) / weight).mean(dim=-1)

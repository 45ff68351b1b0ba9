"""On whom the attention of a layer falls: on the image itself, on images of its class.

Shapes: B sequences of g rows, R rows that each of those may attend to, its own sequence first.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_bf.layers.attention_weights import Attention


@dataclass(frozen=True)
class Shares:
    """Means over rows and heads.

    Attributes:
        itself: share of the attention that a row gives to its own row, in [0, 1].
        same_class: of what it gives to other rows, the share that falls on images of its class;
            None without labels, or where no row attends to others.
        by_chance: the same, were it given to all others that it may attend to in equal parts.
    """

    itself: float
    same_class: float | None
    by_chance: float | None


def attention_shares(layer: Attention, own: Tensor, others: Tensor) -> Shares:
    """Compute them.

    Args:
        layer: weights (B, heads, g, R).
        own: (B, g) labels of the rows; negative: not known, such a row does not count.
        others: (B, R) labels of what may be attended to; negative: of no row's class.
    """
    weights = layer.weights.mean(dim=1).double()  # (B, g, R)
    group = weights.shape[1]
    is_own = torch.eye(group, weights.shape[2], dtype=torch.bool).expand_as(weights)
    may = layer.seen.expand_as(layer.weights)[:, 0] & ~is_own
    itself = float((weights * is_own).sum() / is_own.sum())
    given = (weights * may).sum(dim=2) * (own >= 0)  # (B, g), to others
    if not float(given.sum()) > 0:
        return Shares(itself, None, None)
    same = may & (own[:, :, None] == others[:, None, :]) & (own >= 0)[:, :, None]
    odds = same.sum(dim=2) / may.sum(dim=2).clamp(min=1)
    return Shares(
        itself,
        same_class=float((weights * same).sum() / given.sum()),
        by_chance=float((given * odds).sum() / given.sum()),
    )

"""Who attends to whom in one layer: what logs and pictures are made from.

Shapes: B sequences, g rows each, R rows that they may attend to: the g of their own sequence first.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

WEIGHTS_AT_ONCE = 2**24  # so many, or the weights of one position

Weigh = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class Attention(NamedTuple):
    """The weights of one layer, without dropout and without gradient.

    Attributes:
        weights: (B, heads, g, R) >= 0, each row sums to 1; of a relation inside the backbone the
            mean over positions.
        entropy: (B, heads, g) of the rows, in nats; inside the backbone the mean over positions,
            which is at most the entropy of the mean.
        seen: bool, broadcasts to the weights: what each row may attend to.
    """

    weights: Tensor
    entropy: Tensor
    seen: Tensor

    def relative_entropy(self) -> Tensor:
        """Mean over rows and heads of entropy / log(rows that a row may attend to).

        Returns:
            () in [0, 1]: 1 is equal weights, 0 a single row; NaN where no row has a choice.
        """
        choices = self.seen.expand_as(self.weights).sum(dim=-1)
        share = self.entropy / choices.to(self.entropy.dtype).log()
        return share.masked_fill(choices < 2, torch.nan).nanmean()


def attention(weights: Tensor, seen: Tensor | None = None) -> Attention:
    """Of weights (B, heads, g, R); `seen` None: every row may attend to all."""
    if seen is None:
        seen = torch.ones(weights.shape[-1], dtype=torch.bool, device=weights.device)
    return Attention(weights, torch.special.entr(weights).sum(dim=-1), seen)


def mean_attention(
    weigh: Weigh, query: Tensor, key: Tensor, seen: Tensor | None, positions: int
) -> Attention:
    """The mean over positions, a few at a time: all together may not fit into memory.

    Args:
        weigh: queries and keys to weights, with any leading dimensions.
        query: (B * positions, heads, g, d).
        key: (B * positions, heads, R, d).
        seen: bool, broadcasts to (B, heads, g, R), or None: all.
        positions: of each sequence.
    """
    query, key = query.unflatten(0, (-1, positions)), key.unflatten(0, (-1, positions))
    shape = (*query[:, 0, ..., 0].shape, key.shape[-2])
    at_once = max(1, WEIGHTS_AT_ONCE // math.prod(shape))
    everywhere = None if seen is None else seen.broadcast_to(shape)[:, None]
    parts = [
        attention(weigh(few, of_few, everywhere), seen)
        for few, of_few in zip(query.split(at_once, 1), key.split(at_once, 1), strict=True)
    ]
    weights = sum(part.weights.sum(dim=1) for part in parts) / positions
    entropy = sum(part.entropy.sum(dim=1) for part in parts) / positions
    assert isinstance(weights, Tensor) and isinstance(entropy, Tensor)
    return Attention(weights, entropy, parts[0].seen)

"""A gate between the plain and the related stream, closed at the start.

Shapes: N local batch, D width.
"""

import torch
from torch import Tensor, nn

from ssl_bf.layers.attention_weights import Attention
from ssl_bf.relations.surroundings import Beside


class Gated(nn.Module):
    """h + gamma * (R(h) - h), gamma one trained scalar: 0 at the start, so that it is a copy.

    How far gamma moves says whether the loss asks for the relation.
    """

    def __init__(self, relating: nn.Module) -> None:
        """Take R over; a `Relating` module."""
        super().__init__()
        self.relating = relating
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        features: Tensor,
        order: Tensor | None,
        *,
        dropout: bool,
        beside: Beside | None = None,
        attention: list[Attention] | None = None,
    ) -> Tensor:
        """(N, D) -> (N, D), the arguments those of R."""
        seen = {} if beside is None else {"beside": beside}
        related = self.relating(features, order, dropout=dropout, attention=attention, **seen)
        return torch.lerp(features.to(related.dtype), related, self.gate.to(related.dtype))

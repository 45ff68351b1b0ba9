"""Attention of every row of a sequence to all of its rows, itself included.

Shapes: B sequences, g rows each, m rows beside them, D width.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_bf.layers.attention_weights import Attention, mean_attention
from ssl_bf.losses.unit_length import full_precision


class SelfAttention(nn.MultiheadAttention):
    """Parameters, their names and initial values are the framework's; the call is this one.

    Written out because the framework's ties dropout to its train mode.
    """

    def forward(  # type: ignore[override]
        self,
        rows: Tensor,
        dropout: float,
        beside: Tensor | None = None,
        seen: Tensor | None = None,
    ) -> Tensor:
        """(B, g, D) -> (B, g, D).

        Args:
            rows: (B, g, D).
            dropout: share of the attention that is dropped.
            beside: (B, m, D) further rows, which are attended to but do not attend.
            seen: bool, broadcasts to (B, heads, g, g + m): which rows each row attends to; None:
                all. At least one each.
        """
        query, key, value = self._projected(rows, beside)
        mixed = self.mix(query, key, value, dropout, seen)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out

    def attention(
        self,
        rows: Tensor,
        beside: Tensor | None = None,
        seen: Tensor | None = None,
        *,
        positions: int = 1,
    ) -> Attention:
        """What `forward` weighs the values by, without dropout; the same arguments.

        Args:
            rows: (B, g, D).
            beside: as in `forward`.
            seen: as in `forward`.
            positions: so many sequences after each other are one, at as many positions of the
                images; their mean is returned.
        """
        query, key, _ = self._projected(rows, beside)
        return mean_attention(self.weights, query, key, seen, positions)

    def weights(self, query: Tensor, key: Tensor, seen: Tensor | None = None) -> Tensor:
        """Queries (..., g, d) and keys (..., R, d) to weights (..., g, R) that `mix` mixes by."""
        scores = full_precision(query @ key.transpose(-2, -1)) / math.sqrt(query.shape[-1])
        if seen is not None:
            scores = scores.masked_fill(~seen, -torch.inf)
        return scores.softmax(dim=-1)

    def _projected(self, rows: Tensor, beside: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, heads, g, D / heads), keys and values (B, heads, g + m, D / heads)."""
        source = rows if beside is None else torch.cat([rows, beside], dim=1)
        projected = functional.linear(source, self.in_proj_weight, self.in_proj_bias)
        query, key, value = (
            part.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for part in projected.chunk(3, dim=2)
        )
        return query[:, :, : rows.shape[1]], key, value

    def mix(
        self, query: Tensor, key: Tensor, value: Tensor, dropout: float, seen: Tensor | None
    ) -> Tensor:
        """Values (B, heads, g + m, d) weighted for each query (B, heads, g, d)."""
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=seen, dropout_p=dropout
        )


class UniformAttention(SelfAttention):
    """Every row that is seen weighs the same; the parameters of queries and keys do nothing."""

    def mix(
        self, query: Tensor, key: Tensor, value: Tensor, dropout: float, seen: Tensor | None
    ) -> Tensor:
        """Values (B, heads, g + m, d) averaged."""
        return super().mix(torch.zeros_like(query), key, value, dropout, seen)

    def weights(self, query: Tensor, key: Tensor, seen: Tensor | None = None) -> Tensor:
        """(..., g, R), equal for all that are seen."""
        return super().weights(torch.zeros_like(query), key, seen)

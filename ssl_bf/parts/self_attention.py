"""Attention of every row of a sequence to all of its rows, itself included.

Shapes: B sequences, g rows each, m rows beside them, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


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
        source = rows if beside is None else torch.cat([rows, beside], dim=1)
        projected = functional.linear(source, self.in_proj_weight, self.in_proj_bias)
        query, key, value = (
            part.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, g + m, D / heads)
            for part in projected.chunk(3, dim=2)
        )
        if beside is not None:
            query = query[:, :, : rows.shape[1]]
        mixed = self.mix(query, key, value, dropout, seen)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out

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

"""Attention of every row of a sequence to all of its rows, itself included.

Shapes: B sequences, g rows each, D width.
"""

from torch import Tensor, nn
from torch.nn import functional


class SelfAttention(nn.MultiheadAttention):
    """Parameters, their names and initial values are the framework's; the call is this one.

    Written out because the framework's ties dropout to its train mode.
    """

    def forward(self, rows: Tensor, dropout: float) -> Tensor:  # type: ignore[override]
        """(B, g, D) -> (B, g, D); `dropout` is the part of the attention that is dropped."""
        projected = functional.linear(rows, self.in_proj_weight, self.in_proj_bias)
        query, key, value = (
            part.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, g, D / heads)
            for part in projected.chunk(3, dim=2)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out

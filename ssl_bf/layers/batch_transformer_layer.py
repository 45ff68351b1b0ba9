"""The encoder layer of BatchFormer and its controls.

Shapes: B sequences, g rows each, m rows beside them, D width.
"""

from torch import Tensor, nn
from torch.nn import functional

from ssl_bf.layers.self_attention import SelfAttention


class BatchTransformerLayer(nn.Module):
    """One post-norm encoder layer; parameter names equal `nn.TransformerEncoderLayer`'s.

    Written out because the framework's layer ties dropout to its train mode, and the key side
    needs dropout switched off in train mode (`key_dropout: off`).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        feedforward_width: int,
        dropout: float,
        attention: type[SelfAttention] = SelfAttention,
    ) -> None:
        """Dropout `p` acts in four places, as published."""
        super().__init__()
        self.dropout = dropout
        self.self_attn = attention(width, heads)
        self.linear1 = nn.Linear(width, feedforward_width)
        self.linear2 = nn.Linear(feedforward_width, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(
        self,
        rows: Tensor,
        *,
        dropout: bool,
        beside: Tensor | None = None,
        seen: Tensor | None = None,
    ) -> Tensor:
        """(B, g, D) -> (B, g, D): a row attends to all rows of its sequence, itself included.

        Args:
            rows: (B, g, D).
            dropout: False switches every dropout off.
            beside: (B, m, D) further rows to attend to.
            seen: as in `SelfAttention`.
        """
        p = self.dropout if dropout else 0.0
        rows = self.norm1(rows + functional.dropout(self.self_attn(rows, p, beside, seen), p))
        hidden = functional.dropout(functional.relu(self.linear1(rows)), p)
        out: Tensor = self.norm2(rows + functional.dropout(self.linear2(hidden), p))
        return out

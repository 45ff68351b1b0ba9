"""BatchFormer (V1): a transformer encoder whose sequence is the batch.

Source: Hou et al. 2022 (arXiv 2203.01522); sizes as in the published code. Shapes: N local batch,
g rows per group, D width.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from linear_eval.system.errors import InputError
from ssl_bf.parts.self_attention import SelfAttention
from ssl_bf.relations.relation import Context, OnOff, TrainedRelationConfig


@dataclass(frozen=True, kw_only=True)
class BatchTransformerConfig(TrainedRelationConfig):
    """Keys of the transformer over the batch."""

    layers: int = 1  # of the transformer
    heads: int = 4  # of its attention; they divide the width
    feedforward: float = 1.0  # hidden width over D
    dropout: float = 0.5  # share of the values that is dropped
    key_dropout: OnOff = "on"  # whether the key side drops out too, with its own masks

    def __post_init__(self) -> None:
        """Refuse sizes below 1 (feedforward: 0 and below) and a dropout outside [0, 1)."""
        super().__post_init__()
        if self.layers < 1 or self.heads < 1:
            raise ValueError(f"layers and heads: must be >= 1, got {self.layers}, {self.heads}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: must lie in [0, 1), got {self.dropout}")
        if self.feedforward <= 0:
            raise ValueError(f"feedforward: must be > 0, got {self.feedforward}")


@dataclass(frozen=True, kw_only=True)
class BatchFormerConfig(BatchTransformerConfig):
    """BatchFormer as relation."""

    name: Literal["batchformer"] = "batchformer"
    context: Context = 32  # rows that see each other, in random groups; local: all of a device

    def __post_init__(self) -> None:
        """Refuse groups of fewer than 2 rows."""
        super().__post_init__()
        if isinstance(self.context, int) and self.context < 2:
            raise ValueError(f"context: a group needs at least 2 rows, got {self.context}")

    @property
    def title(self) -> str:
        """In a heading: with what a backbone was pretrained."""
        return "with BatchFormer"

    def relating(self, width: int) -> "BatchTransformer":
        """Make the transformer; its groups are the context."""
        return batch_transformer(self, width, group=self.context)


def batch_transformer(
    config: BatchTransformerConfig, width: int, *, group: Context
) -> "BatchTransformer":
    """The module behind `batchformer` and its control `self_only`, equal in parameters."""
    if width % config.heads:
        raise InputError(
            f"relation.heads: {config.heads} heads do not divide the width {width}; choose a "
            "divisor of it"
        )
    return BatchTransformer(
        width,
        layers=config.layers,
        heads=config.heads,
        feedforward_width=max(1, round(config.feedforward * width)),
        dropout=config.dropout,
        group=group,
    )


class BatchTransformer(nn.Module):
    """Relates the rows of a batch in groups: (N, D) -> (N, D).

    The N rows are permuted, cut into N / g groups, and every group is one sequence. There is no
    position encoding, so the order inside a group does not matter.
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int,
        heads: int,
        feedforward_width: int,
        dropout: float,
        group: Context,
    ) -> None:
        """Initialise as the framework's encoder layer does: Xavier attention, zero biases."""
        super().__init__()
        self.group = group
        self.encoder_layers = nn.ModuleList(
            BatchTransformerLayer(width, heads, feedforward_width, dropout) for _ in range(layers)
        )

    def forward(self, features: Tensor, order: Tensor | None, *, dropout: bool) -> Tensor:
        """Relate rows of one view; gradient flows between the rows of a group.

        Args:
            features: (N, D).
            order: (N,) permutation that deals the rows into groups, or None to keep them.
            dropout: False switches every dropout off.
        """
        rows = features if order is None else features.index_select(0, order)
        group = len(rows) if self.group == "local" else self.group
        sequences = rows.reshape(-1, group, rows.shape[1])  # (N / g, g, D)
        for layer in self.encoder_layers:
            sequences = layer(sequences, dropout=dropout)
        related = sequences.flatten(0, 1)
        if order is None:
            return related
        return torch.empty_like(related).index_copy(0, order, related)  # back to their places


class BatchTransformerLayer(nn.Module):
    """One post-norm encoder layer; parameter names equal `nn.TransformerEncoderLayer`'s.

    Written out because the framework's layer ties dropout to its train mode, and the key side
    needs dropout switched off in train mode (`key_dropout: off`).
    """

    def __init__(self, width: int, heads: int, feedforward_width: int, dropout: float) -> None:
        """Dropout `p` acts in four places, as published."""
        super().__init__()
        self.dropout = dropout
        self.self_attn = SelfAttention(width, heads)
        self.linear1 = nn.Linear(width, feedforward_width)
        self.linear2 = nn.Linear(feedforward_width, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, rows: Tensor, *, dropout: bool) -> Tensor:
        """(B, g, D) -> (B, g, D): a row attends to all rows of its sequence, itself included."""
        p = self.dropout if dropout else 0.0
        rows = self.norm1(rows + functional.dropout(self.self_attn(rows, p), p))
        hidden = functional.dropout(functional.relu(self.linear1(rows)), p)
        out: Tensor = self.norm2(rows + functional.dropout(self.linear2(hidden), p))
        return out

"""BatchFormer (V1): a transformer encoder whose sequence is the batch.

Source: Hou et al. 2022 (arXiv 2203.01522); sizes as in the published code. Shapes: N local batch,
g rows per group, D width.
"""

from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from linear_eval.system.errors import InputError
from ssl_bf.parts.gathered_rows import rows_of_others
from ssl_bf.parts.self_attention import SelfAttention
from ssl_bf.relations.keys import Context, OnOff
from ssl_bf.relations.relation import TrainedRelationConfig


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
    # rows that see each other: random groups of so many; local: all of a device; global: of all
    context: int | Literal["local", "global"] = 32

    def __post_init__(self) -> None:
        """Refuse groups of fewer than 2 rows."""
        super().__post_init__()
        check_group(self.context)

    @property
    def title(self) -> str:
        """In a heading: with what a backbone was pretrained."""
        return "with BatchFormer"

    def relating(self, width: int) -> nn.Module:
        """Make the transformer; its groups are the context."""
        return batch_transformer(BatchTransformer, self, width)


def check_group(context: Context) -> None:
    """Refuse a group in which no row has company.

    Raises:
        ValueError: the message begins with the key.
    """
    if isinstance(context, int) and context < 2:
        raise ValueError(f"context: a group needs at least 2 rows, got {context}")


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
        attention: type[SelfAttention] = SelfAttention,
    ) -> None:
        """Initialise as the framework's encoder layer does: Xavier attention, zero biases."""
        super().__init__()
        self.group = group
        self.encoder_layers = nn.ModuleList(
            BatchTransformerLayer(width, heads, feedforward_width, dropout, attention)
            for _ in range(layers)
        )

    def forward(self, features: Tensor, order: Tensor | None, *, dropout: bool) -> Tensor:
        """Relate rows of one view; gradient flows between the rows of a group.

        Args:
            features: (N, D).
            order: (N,) permutation that deals the rows into groups, or None to keep them.
            dropout: False switches every dropout off.
        """
        sequences = self.deal(features, order)
        for layer in self.encoder_layers:
            # The rows of other devices are of this layer too: gathered anew, with gradient.
            others = rows_of_others(sequences[0])[None] if self.group == "global" else None
            sequences = layer(sequences, dropout=dropout, beside=others)
        return collect(sequences, order)

    def deal(self, features: Tensor, order: Tensor | None) -> Tensor:
        """(N, D) -> sequences (N / g, g, D)."""
        rows = features if order is None else features.index_select(0, order)
        group = self.group if isinstance(self.group, int) else len(rows)
        return rows.reshape(-1, group, rows.shape[1])


def collect(sequences: Tensor, order: Tensor | None) -> Tensor:
    """(N / g, g, D) -> (N, D), each row back in its place."""
    related = sequences.flatten(0, 1)
    if order is None:
        return related
    return torch.empty_like(related).index_copy(0, order, related)


TransformerT = TypeVar("TransformerT", bound=BatchTransformer)


def batch_transformer(
    kind: type[TransformerT],
    config: BatchTransformerConfig,
    width: int,
    *,
    group: Context | None = None,
    attention: type[SelfAttention] = SelfAttention,
) -> TransformerT:
    """The module behind `batchformer` and its controls, equal in parameters.

    Args:
        kind: of transformer.
        config: its sizes.
        width: of the features.
        group: other than the config's context, if not None.
        attention: of every layer.

    Raises:
        InputError: the heads do not divide the width.
    """
    check_heads(config.heads, width)
    return kind(
        width,
        layers=config.layers,
        heads=config.heads,
        feedforward_width=max(1, round(config.feedforward * width)),
        dropout=config.dropout,
        group=config.context if group is None else group,
        attention=attention,
    )


def check_heads(heads: int, width: int) -> None:
    """Refuse heads that cannot share the width.

    Raises:
        InputError: naming both.
    """
    if width % heads:
        raise InputError(
            f"relation.heads: {heads} heads do not divide the width {width}; choose a divisor of it"
        )


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

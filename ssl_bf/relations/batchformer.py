"""BatchFormer (V1): a transformer encoder whose sequence is the batch.

Source: Hou et al. 2022 (arXiv 2203.01522); sizes as in the published code. Shapes: N local batch,
g rows per group, D width.
"""

from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from ssl_bf.layers.attention_weights import Attention
from ssl_bf.layers.batch_transformer_layer import BatchTransformerLayer
from ssl_bf.layers.self_attention import SelfAttention
from ssl_bf.parts.gathered_rows import rows_of_others
from ssl_bf.parts.groups import check_group, check_heads, collect, deal
from ssl_bf.relations.keys import Context, OnOff
from ssl_bf.relations.neighbour_memory import MEMORY, NeighbourMemory, check_memory
from ssl_bf.relations.surroundings import Beside, Surroundings
from ssl_bf.relations.two_streams import TrainedRelationConfig

NEIGHBOURS = 16


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
    # rows that see each other: random groups of so many; local: all of a device; global: of all;
    # neighbours: a row and what is most similar to it in a memory of slow features
    context: Context = 32
    neighbours: int | None = None  # with context=neighbours; null: 16
    memory: int | None = None  # rows of it, with context=neighbours; null: 4096

    def __post_init__(self) -> None:
        """Refuse groups of fewer than 2 rows, and keys that this context ignores."""
        super().__post_init__()
        check_group(self.context)
        for name in ("neighbours", "memory"):
            if getattr(self, name) is not None and self.context != "neighbours":
                raise ValueError(
                    f"{name}: does nothing with context={self.context}; leave it out, or set "
                    "context=neighbours"
                )
        check_memory(*self._memory)

    @property
    def _memory(self) -> tuple[int, int]:
        """Neighbours of a row, and rows to choose them from."""
        count = NEIGHBOURS if self.neighbours is None else self.neighbours
        return count, MEMORY if self.memory is None else self.memory

    @property
    def title(self) -> str:
        """In a heading: with what a backbone was pretrained."""
        return "with BatchFormer"

    def relating(self, width: int) -> nn.Module:
        """Make the transformer; its groups are the context."""
        among = NeighbourTransformer if self.context == "neighbours" else BatchTransformer
        return batch_transformer(among, self, width)

    def surroundings(self, width: int, *, has_key_side: bool) -> Surroundings | None:
        """The memory that neighbours are taken from."""
        if self.context != "neighbours":
            return None
        return NeighbourMemory(width, *self._memory, has_key_side=has_key_side)


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

    def forward(
        self,
        features: Tensor,
        order: Tensor | None,
        *,
        dropout: bool,
        attention: list[Attention] | None = None,
    ) -> Tensor:
        """Relate rows of one view; gradient flows between the rows of a group.

        Args:
            features: (N, D).
            order: (N,) permutation that deals the rows into groups, or None to keep them.
            dropout: False switches every dropout off.
            attention: a list that the attention of each layer is added to; None: nobody asks.
        """
        sequences = deal(features, order, self.group)
        for layer in self.encoder_layers:
            # The rows of other devices are of this layer too: gathered anew, with gradient.
            others = rows_of_others(sequences[0])[None] if self.group == "global" else None
            if attention is not None:
                assert isinstance(layer, BatchTransformerLayer)
                attention.append(layer.self_attn.attention(sequences, others))
            sequences = layer(sequences, dropout=dropout, beside=others)
        return collect(sequences, order)


class NeighbourTransformer(BatchTransformer):
    """BatchFormer on one sequence per row: the row itself, and its neighbours in a memory."""

    def forward(  # type: ignore[override]
        self,
        features: Tensor,
        order: Tensor | None,
        *,
        dropout: bool,
        beside: Beside,
        attention: list[Attention] | None = None,
    ) -> Tensor:
        """(N, D) -> (N, D); `beside` are the neighbours (N, m, D) and which there are (N, m).

        Between layers the neighbours of a row pass through the layer among themselves.
        """
        assert order is None, "there are no groups"
        rows, context = features[:, None], beside.rows
        own = torch.eye(context.shape[1], dtype=torch.bool, device=features.device)
        mutual = (beside.seen[:, None] | own)[:, None]  # a row that is not there sees itself
        seen = torch.cat([beside.seen.new_ones(len(rows), 1), beside.seen], dim=1)[:, None, None]
        for number, layer in enumerate(self.encoder_layers):
            if attention is not None:
                assert isinstance(layer, BatchTransformerLayer)
                attention.append(layer.self_attn.attention(rows, context, seen))
            related = layer(rows, dropout=dropout, beside=context, seen=seen)
            if number + 1 < len(self.encoder_layers):
                context = layer(context, dropout=dropout, seen=mutual)
            rows = related
        return collect(rows, None)


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

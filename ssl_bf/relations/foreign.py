"""The control `foreign`: BatchFormer whose context comes from another batch.

If it does as well as BatchFormer, it does not matter which images see each other, or that the loss
also trains through them. Shapes: N local batch, g rows per group, D width, W devices.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from ssl_bf.layers.attention_weights import Attention
from ssl_bf.layers.batch_transformer_layer import BatchTransformerLayer
from ssl_bf.parts.groups import check_group, collect, deal
from ssl_bf.relations.batchformer import BatchTransformer, BatchTransformerConfig, batch_transformer
from ssl_bf.relations.previous_batch import PreviousBatch, related_sides, seen_in_groups
from ssl_bf.relations.surroundings import Beside, Surroundings


@dataclass(frozen=True, kw_only=True)
class ForeignConfig(BatchTransformerConfig):
    """BatchFormer that sees, beside each sample itself, the process's previous batch."""

    name: Literal["foreign"] = "foreign"
    # of a group its row, and g - 1 rows of the last batch; local: of a device; global: of all
    context: int | Literal["local", "global"] = 32

    def __post_init__(self) -> None:
        """Refuse groups of fewer than 2 rows."""
        super().__post_init__()
        check_group(self.context)

    def relating(self, width: int) -> nn.Module:
        """Make the transformer; its parameters are BatchFormer's."""
        return batch_transformer(ForeignTransformer, self, width)

    def surroundings(self, width: int, *, has_key_side: bool) -> Surroundings:
        """The previous batch, for the sides that are related."""
        del has_key_side
        sides = related_sides(self, has_key_side=True)  # of SimSiam too, as in earlier checkpoints
        return PreviousBatch((width,), sides, of_all_devices=self.context == "global")


class ForeignTransformer(BatchTransformer):
    """BatchFormer with all rows of a group but the own one from another batch."""

    def forward(  # type: ignore[override]
        self,
        features: Tensor,
        order: Tensor | None,
        *,
        dropout: bool,
        beside: Beside,
        attention: list[Attention] | None = None,
    ) -> Tensor:
        """(N, D) -> (N, D).

        Between layers the other batch passes through the layer too, as BatchFormer would have it;
        there its rows see all of it.

        Args:
            features: (N, D).
            order: (N,) permutation that deals the rows into groups, or None to keep them.
            dropout: False switches every dropout off.
            beside: rows (M, D) of the other batch, M = N or W * N, and which of them each row of
                this one may see, (N, M).
            attention: a list that the attention of each layer is added to; None: nobody asks.
        """
        sequences = deal(features, order, self.group)  # (N / g, g, D)
        context = deal(beside.rows, None, self.group)  # (N / g, m, D), m = g or W * N
        allowed = beside.seen if order is None else beside.seen[order]
        seen = seen_in_groups(allowed, len(sequences), is_global=self.group == "global")
        for number, layer in enumerate(self.encoder_layers):
            if attention is not None:
                assert isinstance(layer, BatchTransformerLayer)
                attention.append(layer.self_attn.attention(sequences, context, seen))
            related = layer(sequences, dropout=dropout, beside=context, seen=seen)
            if number + 1 < len(self.encoder_layers):
                context = layer(context, dropout=dropout)
            sequences = related
        return collect(sequences, order)

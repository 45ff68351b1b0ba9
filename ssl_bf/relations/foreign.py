"""The control `foreign`: BatchFormer whose context comes from another batch.

If it does as well as BatchFormer, it does not matter which images see each other, or that the loss
also trains through them. Shapes: N local batch, g rows per group, D width, W devices.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from linear_eval.system.distributed import all_gather_rows, world_size
from linear_eval.system.errors import InputError
from ssl_bf.parts.attention_weights import Attention
from ssl_bf.parts.batch_transformer_layer import BatchTransformerLayer
from ssl_bf.parts.gathered_keys import own_keys
from ssl_bf.parts.groups import check_group, collect, deal
from ssl_bf.relations.batchformer import BatchTransformer, BatchTransformerConfig, batch_transformer
from ssl_bf.relations.surroundings import Beside, Samples, Side, Surroundings


@dataclass(frozen=True, kw_only=True)
class ForeignConfig(BatchTransformerConfig):
    """BatchFormer that sees, beside each sample itself, the process's previous batch."""

    name: Literal["foreign"] = "foreign"
    # of a group its row, and g - 1 rows of the last batch; local: all rows of a device
    context: int | Literal["local"] = 32

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
        sides: list[Side] = ["query"] if self.relates_queries else []
        return PreviousBatch(width, [*sides, "key"] if self.relates_keys else sides)


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

        Between layers the other batch passes through the layer too, as BatchFormer would have it.

        Args:
            features: (N, D).
            order: (N,) permutation that deals the rows into groups, or None to keep them.
            dropout: False switches every dropout off.
            beside: rows (N, D) of the other batch and whether there was one, (N,).
            attention: a list that the attention of each layer is added to; None: nobody asks.
        """
        sequences = deal(features, order, self.group)
        context = deal(beside.rows, None, self.group)
        there = deal(beside.seen[:, None], None, self.group).transpose(1, 2)  # (N / g, 1, g)
        own = torch.eye(sequences.shape[1], dtype=torch.bool, device=features.device)
        seen = torch.cat([own.expand(len(there), -1, -1), there & ~own], dim=2)[:, None]
        for number, layer in enumerate(self.encoder_layers):
            if attention is not None:
                assert isinstance(layer, BatchTransformerLayer)
                attention.append(layer.self_attn.attention(sequences, context, seen))
            related = layer(sequences, dropout=dropout, beside=context, seen=seen)
            if number + 1 < len(self.encoder_layers):
                context = layer(context, dropout=dropout)
            sequences = related
        return collect(sequences, order)


class PreviousBatch(Surroundings):
    """The plain features of the last view of the previous step, for each side.

    Buffers `rows_SIDE` (W * N, D) of all devices, each of which sees its own, and `there` (), bool:
    whether there was a previous step.
    """

    there: Tensor

    def __init__(self, width: int, sides: list[Side]) -> None:
        """Hold nothing yet."""
        super().__init__()
        self.sides = sides
        self.noted: dict[Side, Tensor] = {}
        for side in sides:
            self.register_buffer(f"rows_{side}", torch.zeros(0, width))
        self.register_buffer("there", torch.zeros((), dtype=torch.bool))

    def make_room(self, local_batch: int) -> None:
        """Take the size of a batch of all devices."""
        for side in self.sides:
            rows = self.get_buffer(f"rows_{side}")
            room = rows.new_zeros(local_batch * world_size(), rows.shape[1])
            self.register_buffer(f"rows_{side}", room)

    def observe(self, features: Tensor, samples: Samples, side: Side, view: int) -> None:
        """Note them for the next step; the last view stays."""
        del samples, view
        if side in self.sides:
            self.noted[side] = features.detach()

    def beside(self, features: Tensor, samples: Samples, side: Side, view: int) -> Beside:
        """This device's rows of the previous step, whichever view they show."""
        del samples, view
        rows = self.get_buffer(f"rows_{side}")[own_keys(len(features))]
        assert len(rows) == len(features), "no room was made for such a batch"
        # A copy: the buffer moves on after the step, and who looks at the step does so later.
        rows = rows.to(features.dtype, copy=True)
        return Beside(rows, self.there.clone().expand(len(features)))

    def after_step(self) -> None:
        """What was this step's batch is the previous one now."""
        for side, features in self.noted.items():
            self.get_buffer(f"rows_{side}").copy_(all_gather_rows(features))
            self.there.fill_(True)
        self.noted.clear()

    def check_steps(self, steps_per_epoch: int) -> None:
        """Refuse a run whose batches all hold the same images.

        Raises:
            InputError: an epoch is one batch.
        """
        if steps_per_epoch < 2:
            raise InputError(
                "relation.name: foreign needs another batch, and an epoch of this run has one; "
                "lower batch_size, add images, or choose another relation"
            )

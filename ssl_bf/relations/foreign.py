"""The control `foreign`: BatchFormer whose context comes from another batch.

If it does as well as BatchFormer, it does not matter which images see each other, or that the loss
also trains through them. Shapes: N local batch, g rows per group, D width, W devices.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from linear_eval.system.errors import InputError
from ssl_bf.layers.attention_weights import Attention
from ssl_bf.layers.batch_transformer_layer import BatchTransformerLayer
from ssl_bf.parts.gathered_keys import own_keys
from ssl_bf.parts.groups import check_group, collect, deal
from ssl_bf.parts.key_queue import NO_IMAGE
from ssl_bf.relations.batchformer import BatchTransformer, BatchTransformerConfig, batch_transformer
from ssl_bf.relations.surroundings import Beside, Samples, Side, Surroundings
from ssl_bf.shards.shard import all_gather_rows, num_shards


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
        sides: list[Side] = ["query"] if self.relates_queries else []
        sides = [*sides, "key"] if self.relates_keys else sides
        return PreviousBatch(width, sides, of_all_devices=self.context == "global")


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
        seen = self._seen(beside.seen if order is None else beside.seen[order], len(sequences))
        for number, layer in enumerate(self.encoder_layers):
            if attention is not None:
                assert isinstance(layer, BatchTransformerLayer)
                attention.append(layer.self_attn.attention(sequences, context, seen))
            related = layer(sequences, dropout=dropout, beside=context, seen=seen)
            if number + 1 < len(self.encoder_layers):
                context = layer(context, dropout=dropout)
            sequences = related
        return collect(sequences, order)

    def _seen(self, allowed: Tensor, groups: int) -> Tensor:
        """(N, M) -> (N / g, 1, g, g + m): itself; its group of the other batch but its place."""
        rows, others = allowed.shape[0] // groups, allowed.shape[1] // groups
        number = torch.arange(groups, device=allowed.device)
        of_group = allowed.reshape(groups, rows, groups, others)[number, :, number]
        place = own_keys(rows) if self.group == "global" else slice(rows)
        at_its_place = torch.eye(others, dtype=torch.bool, device=allowed.device)[place]
        own = torch.eye(rows, dtype=torch.bool, device=allowed.device).expand(groups, -1, -1)
        return torch.cat([own, of_group & ~at_its_place], dim=2)[:, None]


class PreviousBatch(Surroundings):
    """The plain features of the last view of the previous step, for each side.

    Buffers `rows_SIDE` (W * N, D) of all devices, and `images_SIDE` (W * N,), their image ids. An
    image may end an epoch and begin the next: then its row does not see its own older copy.
    """

    def __init__(self, width: int, sides: list[Side], *, of_all_devices: bool) -> None:
        """Hold nothing yet; each device sees its own rows, or those of all."""
        super().__init__()
        self.sides, self.of_all_devices = sides, of_all_devices
        self.noted: dict[Side, tuple[Tensor, Tensor]] = {}
        for side in sides:
            self.register_buffer(f"rows_{side}", torch.zeros(0, width))
            self.register_buffer(f"images_{side}", torch.zeros(0, dtype=torch.int64))

    def make_room(self, local_batch: int) -> None:
        """Take the size of a batch of all devices."""
        for side in self.sides:
            rows, images = self._of(side)
            size = local_batch * num_shards()
            self.register_buffer(f"rows_{side}", rows.new_zeros(size, rows.shape[1]))
            self.register_buffer(f"images_{side}", images.new_full((size,), NO_IMAGE))

    def observe(self, features: Tensor, samples: Samples, side: Side, view: int) -> None:
        """Note them for the next step; the last view stays."""
        del view
        if side in self.sides:
            self.noted[side] = features.detach(), samples.image_ids

    def beside(self, features: Tensor, samples: Samples, side: Side, view: int) -> Beside:
        """The previous step's rows (M, D), whichever view they show; no row sees its own image."""
        del view
        rows, images = self._of(side)
        seen_at_once = num_shards() if self.of_all_devices else 1
        if not self.of_all_devices:
            rows, images = rows[own_keys(len(features))], images[own_keys(len(features))]
        assert len(rows) == len(features) * seen_at_once, "no room was made for such a batch"
        seen = (images != NO_IMAGE) & (images != samples.image_ids[:, None])
        # A copy: the buffer moves on after the step, and who looks at the step does so later.
        return Beside(rows.to(features.dtype, copy=True), seen)

    def after_step(self) -> None:
        """What was this step's batch is the previous one now."""
        for side, (features, image_ids) in self.noted.items():
            rows, images = self._of(side)
            rows.copy_(all_gather_rows(features))
            images.copy_(all_gather_rows(image_ids))
        self.noted.clear()

    def _of(self, side: Side) -> tuple[Tensor, Tensor]:
        return self.get_buffer(f"rows_{side}"), self.get_buffer(f"images_{side}")

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

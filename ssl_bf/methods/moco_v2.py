"""MoCo-v2: momentum contrast against a queue of past keys.

Source: Chen et al. 2020 (arXiv 2003.04297), He et al. 2020 (arXiv 1911.05722), the order of
operations from facebookresearch/moco 7397dfe. Shapes: N local batch, S streams, P projection
width, K queue rows, W devices.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import StepContext
from ssl_bf.layers.batch_norm import num_groups, set_batch_norm_mode
from ssl_bf.layers.mlp_head import mlp_head
from ssl_bf.losses.info_nce import Negatives, info_nce
from ssl_bf.losses.unit_length import unit_length
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.geometry import Observed, logits
from ssl_bf.methods.keys import MethodKeys
from ssl_bf.methods.measurements import context_gap
from ssl_bf.methods.method import Method, Start
from ssl_bf.methods.ranges import check_ranges, suspects_of_keys
from ssl_bf.parts.batch_shuffle import shuffle_rows
from ssl_bf.parts.gathered_keys import gather_keys, own_keys
from ssl_bf.parts.key_queue import KeyQueue
from ssl_bf.parts.negatives import batch_negatives, queued_negatives
from ssl_bf.parts.slow_copy import make_slow_copy
from ssl_bf.relations.streams import mean_over_stream_pairs, project_and_relate
from ssl_bf.relations.surroundings import Samples
from ssl_bf.schedules import Momentum
from ssl_bf.shards.shard import all_gather_rows, num_shards


@dataclass(frozen=True, kw_only=True)
class MoCoV2Config(MethodKeys):
    """Keys of MoCo-v2; defaults are the published ImageNet values."""

    name: Literal["moco_v2"] = "moco_v2"
    temperature: float = 0.2  # divides the similarities in the loss
    momentum: float = 0.999  # of the slow copies, per step: the share that is kept
    momentum_schedule: Literal["constant", "cosine"] = "constant"  # cosine: rises to 1 by the end
    projection_dim: int = 128  # width P of queries and keys
    hidden_dim: int | None = None  # of the projector; null: the backbone's width, as published
    hidden_layers: int = 1  # of the projector
    head_batch_norm: bool = False  # in the projector
    queue_size: int = 65536  # rows per queue
    # dual: a queue per key stream; both: one mixed queue, as published; plain: plain keys only
    queue_streams: Literal["dual", "both", "plain"] = "dual"
    mask_same_image: bool = True  # an older key of the same image is no negative
    in_batch_negatives: bool = False  # keys of the batch's other images are negatives too
    symmetric: bool = False  # each view is query once and key once
    batch_norm: str = "local"  # local, synchronised (all devices) or groups:G of a device's rows

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, start: Start) -> "MoCoV2":
        """Make the method."""
        return MoCoV2(self, start)


class MoCoV2(Method):
    """Query encoder, slow key encoder, and queues of keys.

    Differs: keys of the same image as the query are no negatives (`mask_same_image`); the
    symmetric form averages its two directions, so the loss keeps its scale.
    """

    config: MoCoV2Config
    pending: tuple[Tensor, Tensor] | None = None  # keys of all devices, own image ids

    def __init__(self, config: MoCoV2Config, start: Start) -> None:
        """Build heads, relation and queues; the slow copies start equal."""
        super().__init__()
        self.config = config
        self.temperature, self.queue_size = config.temperature, config.queue_size
        self.suspects = suspects_of_keys(config.momentum, config.temperature)
        if not config.mask_same_image:
            self.suspects["own_image_negatives"] = "set method.mask_same_image=true"
        self.backbone = start.backbone
        hidden = [config.hidden_dim or start.width] * config.hidden_layers
        with start.initial_values("projector"):
            self.projector = mlp_head(
                [start.width, *hidden, config.projection_dim],
                batch_norm=config.head_batch_norm,
                hidden_bias=True,
                last_bias=True,
            )
        self.relation = start.build_relation(config.projection_dim, has_key_side=True)
        self.slow_backbone = make_slow_copy(self.backbone)
        self.slow_projector = make_slow_copy(self.projector)
        self.momentum = Momentum(config.momentum, config.momentum_schedule)
        self.queues = nn.ModuleList()
        for number in range(2 if config.queue_streams == "dual" and self._key_streams > 1 else 1):
            with start.initial_values(f"queue/{number}"):
                self.queues.append(KeyQueue(config.queue_size, config.projection_dim))
        set_batch_norm_mode(self, config.batch_norm)

    def forward(self, batch: Batch, context: StepContext = StepContext()) -> Tensor:
        """Contrast queries of view 1 with keys of view 2 (symmetric: and the reverse)."""
        (view_1, view_2), samples = batch.views, batch.samples
        loss_of, rules = partial(info_nce, temperature=self.config.temperature), self.relation.rules
        own = own_keys(len(view_1))
        queries = self.query(view_1, samples, context, 1)  # (S, N, P)
        keys = self.key(view_2, samples, context, 2)  # (S, W * N, P)
        negatives = self.negatives(keys, batch.image_ids)
        loss = mean_over_stream_pairs(loss_of, queries, keys[:, own], rules, negatives)
        self.observed = Observed(queries.detach(), keys[:, own], batch.image_ids)
        if self.config.symmetric:
            loss = self.settled(loss / 2)
            back_keys = self.key(view_1, samples, context, 1)
            queries = self.query(view_2, samples, context, 2)
            negatives = self.negatives(back_keys, batch.image_ids)
            back = mean_over_stream_pairs(loss_of, queries, back_keys[:, own], rules, negatives)
            loss = loss + back / 2
            keys = torch.cat([keys, back_keys], dim=1)
        self.pending = keys, batch.image_ids
        return loss

    @property
    def has_separate_terms(self) -> bool:
        """The two directions of the symmetric form."""
        return self.config.symmetric

    def query(self, view: Tensor, samples: Samples, context: StepContext, number: int) -> Tensor:
        """(N, 3, H, W) -> (S, N, P) with gradient."""
        if self.relation.needs_slow_queries(context):
            self.teach(view, samples, number)
        relate = partial(self.relation.queries, samples=samples, context=context, view=number)
        features = self.features(view, samples, context, number)
        queries = project_and_relate(features, self.projector, relate, self.relation.rules)
        self.projections = queries.detach()
        return queries

    @torch.no_grad()
    def teach(self, view: Tensor, samples: Samples, number: int) -> None:
        """Show the relation what the slow network makes of a view that is queried."""
        slow = self.slow_backbone(view)
        if self.relation.rules.insert_at == "projection":
            slow = self.slow_projector(slow)
        self.relation.teach(slow, samples, number)

    @torch.no_grad()
    def key(self, view: Tensor, samples: Samples, context: StepContext, number: int) -> Tensor:
        """(N, 3, H, W) -> keys (S, W * N, P) of all devices, computed in a shuffled batch."""
        order = None
        if self._shuffles:
            total = len(view) * num_shards()
            order = context.global_permutation(f"shuffle/{number}", total)
            view = shuffle_rows(view, order)
            # For a picture, which one process draws, it costs nothing; several would gather ids.
            if self.relation.surroundings is not None or num_shards() == 1:
                samples = samples.map(partial(shuffle_rows, order=order))
        relation = self.relation
        relate = partial(relation.keys, samples=samples, context=context, view=number)
        features = relation.features(self.slow_backbone, view, samples, context, "key", number)
        keys = project_and_relate(features, self.slow_projector, relate, relation.rules)
        return gather_keys(unit_length(keys), order)

    def negatives(self, keys: Tensor, image_ids: Tensor) -> list[list[Negatives]]:
        """For each stream of `keys` (S, W * N, P), what queries of images (N,) must not pick."""
        masked = image_ids if self.config.mask_same_image else None
        found = []
        for stream, of_batch in enumerate(keys):
            queue = self.queue(min(stream, len(self.queues) - 1))
            found.append([queued_negatives(queue, masked)])
            if self.config.in_batch_negatives:
                found[-1].append(batch_negatives(of_batch, len(image_ids)))
        return found

    def queue(self, number: int) -> KeyQueue:
        """Queue 0, or with `queue_streams: dual` the queue of that key stream."""
        queue = self.queues[number]
        assert isinstance(queue, KeyQueue)
        return queue

    def push_keys(self) -> None:
        """Enqueue the keys of the last forward, of all devices in rank order, and forget them."""
        if self.pending is None:
            return
        keys, ids = self.pending
        self.pending = None
        if self.config.queue_streams == "both":
            keys = keys.flatten(0, 1).unsqueeze(0)  # plain, then related
        ids = all_gather_rows(ids)
        ids = ids.repeat(keys.shape[1] // len(ids))  # for each view and stream
        # plain: the related stream goes nowhere; outside `relation.active` there is none
        for number in range(min(len(self.queues), len(keys))):
            self.queue(number).push(keys[number], ids)

    def slow_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Backbone and projector of the key encoder."""
        return [(self.slow_backbone, self.backbone), (self.slow_projector, self.projector)]

    def check_batch(self, local_batch: int, num_devices: int) -> None:
        """Also refuse a queue that a whole number of steps does not fill."""
        super().check_batch(local_batch, num_devices)
        both = self._key_streams if self.config.queue_streams == "both" else 1
        rows = local_batch * num_devices * both * (2 if self.config.symmetric else 1)
        if self.config.queue_size % rows:
            nearest = max(1, round(self.config.queue_size / rows)) * rows
            raise InputError(
                f"method.queue_size: {self.config.queue_size} is not divisible by the {rows} keys "
                f"that a step pushes; try {nearest}"
            )

    def notes(self) -> list[str]:
        """Warn when keys made by a module at full learning rate enter a queue."""
        trained = [p for p in self.relation.parameters() if p.requires_grad]
        queued = self._key_streams > 1 and self.config.queue_streams != "plain"
        if queued and trained and self.relation.slow_relating is None:
            return [
                *super().notes(),
                "warning: relation.parameters=shared puts keys of a fast-moving module into a "
                "queue; learning may stop. Consider relation.parameters=ema or pairs=plain_keys",
            ]
        return super().notes()

    def measurements(self) -> dict[str, float]:
        """Add the context gap of each query stream, and what the queue holds."""
        values = super().measurements()
        if self.observed is not None:
            queries, keys, image_ids = self.observed
            queue = self.queue(0)
            values |= context_gap(queries, keys[0], queue.keys)
            if len(older := queue.older()):
                values |= logits(queries, keys[0], self.temperature, queue.keys[older])
            values |= queue.measurements(image_ids)
        return values

    @property
    def _shuffles(self) -> bool:
        # BatchNorm over part of the batch leaks which images share that part.
        mode = self.config.batch_norm
        return self.training and (num_groups(mode) > 1 or (mode == "local" and num_shards() > 1))

    @property
    def _key_streams(self) -> int:
        return 2 if self.relation.relating is not None and self.relation.rules.relates_keys else 1

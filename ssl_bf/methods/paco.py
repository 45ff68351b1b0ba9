"""PaCo: MoCo-v2 with labels; classes are candidates beside the images of batch and queue.

Source: Cui et al. 2021 (arXiv 2107.12028), dvlab-research/Parametric-Contrastive-Learning fe56535.
With BatchFormer it was reported (arXiv 2203.01522), but no code of it is public. Shapes: N local
batch, W devices, S streams, P projection width, C classes, K queue rows.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.classifiers.classifier_file import (
    CLASSIFIER_FILE,
    ClassifierInfo,
    TrainedClassifier,
    backbone_digest,
    save_classifier,
)
from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import StepContext
from ssl_bf.layers.batch_norm import num_groups, set_batch_norm_mode
from ssl_bf.layers.mlp_head import mlp_head
from ssl_bf.losses.paco import Others, paco
from ssl_bf.losses.unit_length import unit_length
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.geometry import Observed
from ssl_bf.methods.keys import MethodKeys
from ssl_bf.methods.measurements import context_gap
from ssl_bf.methods.method import Method, Start
from ssl_bf.methods.ranges import check_ranges, suspects_of_keys
from ssl_bf.parts.batch_shuffle import shuffle_rows
from ssl_bf.parts.gathered_keys import gather_keys, own_keys
from ssl_bf.parts.gathered_rows import gather_rows
from ssl_bf.parts.key_queue import KeyQueue
from ssl_bf.parts.slow_copy import make_slow_copy
from ssl_bf.relations.streams import mean_over_stream_pairs, per_row
from ssl_bf.relations.surroundings import Samples
from ssl_bf.schedules import Momentum
from ssl_bf.shards.shard import all_gather_rows, num_shards


@dataclass(frozen=True, kw_only=True)
class PaCoConfig(MethodKeys):
    """Keys of PaCo; defaults are the published ones for CIFAR-100-LT."""

    needs_labels: ClassVar[bool] = True

    name: Literal["moco_v2_paco"] = "moco_v2_paco"
    temperature: float = 0.05  # divides the similarities in the loss
    image_weight: float = 0.01  # of each other image of the class in the loss; alpha in the paper
    class_weight: float = 1.0  # of the class's own logit; beta in the paper
    momentum: float = 0.999  # of the slow copies, per step: the share that is kept
    momentum_schedule: Literal["constant", "cosine"] = "constant"  # cosine: rises to 1 by the end
    projection_dim: int = 32  # width P of queries and keys
    hidden_dim: int | None = None  # of the projector; null: the backbone's width
    hidden_layers: int = 1  # of the projector
    head_batch_norm: bool = True  # in the projector
    queue_size: int = 1024  # rows, each with its label
    batch_norm: str = "local"  # local, synchronised (all devices) or groups:G of a device's rows

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.image_weight < 0:
            raise ValueError(f"image_weight: must be >= 0, got {self.image_weight}")
        if self.class_weight <= 0:
            raise ValueError(f"class_weight: must be > 0, got {self.class_weight}")

    def build(self, start: Start) -> "PaCo":
        """Make the method.

        Raises:
            InputError: the relation weighs related keys.
        """
        return PaCo(self, start)


class PaCo(Method):
    """Query encoder with a linear classifier, slow key encoder, and a queue of labelled keys.

    Labels and keys are plain: the first column of `relation.pairs` weighs the query streams. With
    `insert_at: backbone` both the queries and the class logits of stream 1 are related, with
    `projection` the queries alone; neither is published.

    Differs: queries and keys of all devices are candidates, not those of one.
    """

    config: PaCoConfig
    pending: tuple[Tensor, Tensor] | None = None  # keys and labels of all devices
    log_prior: Tensor

    def __init__(self, config: PaCoConfig, start: Start) -> None:
        """Build head, classifier, relation and queue; the slow copies start equal."""
        super().__init__()
        self.config = config
        self.temperature, self.queue_size = config.temperature, config.queue_size
        self.suspects = suspects_of_keys(config.momentum, config.temperature)
        self.class_names = start.classes.names
        self.backbone = start.backbone
        hidden = [config.hidden_dim or start.width] * config.hidden_layers
        with start.initial_values("projector"):
            self.projector = mlp_head(
                [start.width, *hidden, config.projection_dim],
                batch_norm=config.head_batch_norm,
                hidden_bias=True,
                last_bias=True,
            )
        with start.initial_values("fc"):
            self.fc = nn.Linear(start.width, max(1, len(start.classes.names)))
        counts = torch.tensor(start.classes.counts or (1,), dtype=torch.float32)
        self.register_buffer("log_prior", (counts / counts.sum()).log(), persistent=False)
        self.relation = start.build_relation(config.projection_dim, has_key_side=True)
        if self.relation.rules.relates_keys:
            raise InputError(
                f"relation.pairs: {self.relation.rules.pairs} weighs related keys, and labels have "
                "no related stream; set plain_keys, or weights whose second column is 0"
            )
        self.slow_backbone = make_slow_copy(self.backbone)
        self.slow_projector = make_slow_copy(self.projector)
        self.momentum = Momentum(config.momentum, config.momentum_schedule)
        with start.initial_values("queue/0"):
            self.queue = KeyQueue(config.queue_size, config.projection_dim)
        set_batch_norm_mode(self, config.batch_norm)

    def forward(self, batch: Batch, context: StepContext = StepContext()) -> Tensor:
        """Queries of view 1 against the classes, plain queries, keys of view 2, and the queue."""
        assert batch.labels is not None
        view_1, view_2 = batch.views
        queries, class_logits = self.query(view_1, batch.samples, context)
        keys = self.key(view_2, batch.samples, context)  # (W * N, P)
        labels = all_gather_rows(batch.labels)
        own = own_keys(len(view_1))
        rows = torch.cat([gather_rows(queries[0]), keys, self.queue.keys.to(keys.dtype)])
        others = Others(
            rows=rows,
            labels=torch.cat([labels, labels, self.queue.image_ids]),  # its ids are labels here
            own=torch.arange(own.start, own.stop, device=rows.device),
        )
        of_stream = paco(
            queries,
            class_logits + self.log_prior,
            batch.labels,
            others,
            temperature=self.config.temperature,
            image_weight=self.config.image_weight,
            class_weight=self.config.class_weight,
        )
        self.pending = keys, labels
        self.observed = Observed(queries.detach(), keys[None, own], batch.image_ids)
        return mean_over_stream_pairs(_itself, of_stream, labels[None], self.relation.rules)

    def query(self, view: Tensor, samples: Samples, context: StepContext) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) -> queries (S, N, P) and class logits (S, N, C), with gradient."""
        relation, rules = self.relation, self.relation.rules
        if relation.needs_slow_queries(context):
            self.teach(view, samples)
        relate = partial(relation.queries, samples=samples, context=context, view=1)
        features = self.features(view, samples, context, 1)
        if rules.insert_at == "projection":
            queries = relate(self.projector(features))
            logits = self.fc(features).expand(len(queries), -1, -1)
        else:
            streams = relate(features)
            queries, logits = per_row(self.projector, streams, rules.batch_norm), self.fc(streams)
        self.projections = queries.detach()
        return queries, logits

    @torch.no_grad()
    def teach(self, view: Tensor, samples: Samples) -> None:
        """Show the relation what the slow network makes of the view that is queried."""
        slow = self.slow_backbone(view)
        if self.relation.rules.insert_at == "projection":
            slow = self.slow_projector(slow)
        self.relation.teach(slow, samples, 1)

    @torch.no_grad()
    def key(self, view: Tensor, samples: Samples, context: StepContext) -> Tensor:
        """(N, 3, H, W) -> plain keys (W * N, P) of all devices, unit length.

        Computed in a shuffled batch where BatchNorm could tell which images share a part of it.
        """
        order = None
        if self._shuffles:
            order = context.global_permutation("shuffle/2", len(view) * num_shards())
            view = shuffle_rows(view, order)
            if self.relation.surroundings is not None:
                samples = samples.map(partial(shuffle_rows, order=order))
        features = self.slow_backbone(view)
        keys = self.slow_projector(features)
        at_projection = self.relation.rules.insert_at == "projection"
        self.relation.keys(keys if at_projection else features, samples, context, 2)  # it may note
        return gather_keys(unit_length(keys), order)

    def push_keys(self) -> None:
        """Enqueue the keys of the last forward with their labels, and forget them."""
        if self.pending is not None:
            self.queue.push(*self.pending)
            self.pending = None

    def slow_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Slow backbone and projector."""
        return [(self.slow_backbone, self.backbone), (self.slow_projector, self.projector)]

    def check_batch(self, local_batch: int, num_devices: int) -> None:
        """Also refuse a queue that a whole number of steps does not fill."""
        super().check_batch(local_batch, num_devices)
        rows = local_batch * num_devices
        if self.config.queue_size % rows:
            nearest = max(1, round(self.config.queue_size / rows)) * rows
            raise InputError(
                f"method.queue_size: {self.config.queue_size} is not divisible by the {rows} keys "
                f"that a step pushes; try {nearest}"
            )

    def hand_over(self, path: Path, info: BackboneInfo) -> dict[str, Path]:
        """Write the classifier beside the backbone, which comes last and ends a run."""
        beside = path.with_name(CLASSIFIER_FILE)
        about = ClassifierInfo(self.class_names, backbone_digest(self.kept_backbone))
        weight, bias = self.fc.weight.detach(), self.fc.bias.detach()
        save_classifier(beside, TrainedClassifier(weight, bias, about))
        return {"classifier": beside, **super().hand_over(path, info)}

    def measurements(self) -> dict[str, float]:
        """Add the context gap of each query stream."""
        values = super().measurements()
        if self.observed is not None:
            queries, keys, _ = self.observed
            values |= context_gap(queries, keys[0], self.queue.keys)
        return values

    @property
    def _shuffles(self) -> bool:
        mode = self.config.batch_norm
        return self.training and (num_groups(mode) > 1 or (mode == "local" and num_shards() > 1))


def _itself(of_stream: Tensor, labels: Tensor) -> Tensor:
    """The losses of the streams, which their weights are applied to."""
    del labels
    return of_stream

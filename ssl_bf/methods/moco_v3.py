"""MoCo-v3: momentum contrast inside the batch, with a predictor and a symmetric loss.

Source: Chen, Xie & He 2021 (arXiv 2104.02057), facebookresearch/moco-v3 c349e6e. Shapes: N local
batch, S streams, P projection width, W devices.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from ssl_bf.keyed_random import StepContext
from ssl_bf.layers.batch_norm import set_batch_norm_mode
from ssl_bf.layers.mlp_head import LastNorm, mlp_head
from ssl_bf.losses.info_nce import Negatives, info_nce
from ssl_bf.losses.unit_length import unit_length
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.geometry import Observed
from ssl_bf.methods.keys import MethodKeys
from ssl_bf.methods.method import Method, Start
from ssl_bf.methods.ranges import check_ranges, suspects_of_keys
from ssl_bf.parts.gathered_keys import gather_keys, own_keys
from ssl_bf.parts.negatives import batch_negatives
from ssl_bf.parts.slow_copy import make_slow_copy
from ssl_bf.relations.streams import mean_over_stream_pairs, per_row, project_and_relate
from ssl_bf.relations.surroundings import Samples
from ssl_bf.schedules import Momentum


@dataclass(frozen=True, kw_only=True)
class MoCoV3Config(MethodKeys):
    """Keys of MoCo-v3; defaults are the published ResNet-50 values (100 epochs).

    Published for vision transformers: temperature 0.2, hidden_layers 2, predictor_batch_norm true.
    """

    name: Literal["moco_v3"] = "moco_v3"
    temperature: float = 1.0  # divides the similarities in the loss
    momentum: float = 0.99  # of the slow copies, per step: the share that is kept
    momentum_schedule: Literal["constant", "cosine"] = "cosine"  # cosine: rises to 1 by the end
    projection_dim: int = 256  # width P of queries and keys
    hidden_dim: int = 4096  # of projector and predictor
    hidden_layers: int = 1  # of the projector; 2 for vision transformers, as published
    predictor_batch_norm: bool = False  # its output ends in BatchNorm; true for transformers
    # local, synchronised (all devices) or groups:G of a device's rows
    batch_norm: str = "synchronised"

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, start: Start) -> "MoCoV3":
        """Make the method."""
        return MoCoV3(self, start)


class MoCoV3(Method):
    """Query encoder with predictor, slow key encoder."""

    config: MoCoV3Config

    def __init__(self, config: MoCoV3Config, start: Start) -> None:
        """Build heads and relation; the slow copies start equal."""
        super().__init__()
        self.config = config
        self.temperature = config.temperature
        self.suspects = suspects_of_keys(config.momentum, config.temperature)
        self.backbone = start.backbone
        no_bias = partial(mlp_head, batch_norm=True, hidden_bias=False, last_bias=False)
        hidden, out = [config.hidden_dim], config.projection_dim
        widths = [start.width, *hidden * config.hidden_layers, out]
        with start.initial_values("projector"):
            self.projector = no_bias(widths, last_batch_norm="affine_free")
        last: LastNorm = "affine_free" if config.predictor_batch_norm else "none"
        with start.initial_values("predictor"):
            self.predictor = no_bias([out, *hidden, out], last_batch_norm=last)
        self.relation = start.build_relation(out, has_key_side=True)
        self.slow_backbone = make_slow_copy(self.backbone)
        self.slow_projector = make_slow_copy(self.projector)
        self.momentum = Momentum(config.momentum, config.momentum_schedule)
        set_batch_norm_mode(self, config.batch_norm)

    def forward(self, batch: Batch, context: StepContext = StepContext()) -> Tensor:
        """Sum of both directions, as published: ctr(q1, k2) + ctr(q2, k1), times 2 temperature."""
        (view_1, view_2), samples, rules = batch.views, batch.samples, self.relation.rules
        loss_of = partial(info_nce, temperature=self.config.temperature)
        scale, own = 2 * self.config.temperature, own_keys(len(view_1))
        keys = [self.key(each, samples, context, n) for n, each in enumerate(batch.views, 1)]
        keys_1, keys_2 = gather_keys(torch.stack(keys))  # (S, W * N, P) each
        queries_1 = self.query(view_1, samples, context, 1)  # (S, N, P)
        others = self.negatives(keys_2, len(view_1))
        forth = mean_over_stream_pairs(loss_of, queries_1, keys_2[:, own], rules, others)
        forth = self.settled(scale * forth)
        queries_2 = self.query(view_2, samples, context, 2)
        self.observed = Observed(queries_2.detach(), keys_1[:, own], batch.image_ids)
        others = self.negatives(keys_1, len(view_2))
        back = mean_over_stream_pairs(loss_of, queries_2, keys_1[:, own], rules, others)
        return forth + scale * back

    @property
    def has_separate_terms(self) -> bool:
        """The two directions."""
        return True

    def query(self, view: Tensor, samples: Samples, context: StepContext, number: int) -> Tensor:
        """(N, 3, H, W) -> predictions (S, N, P) with gradient."""
        rules = self.relation.rules
        relate = partial(self.relation.queries, samples=samples, context=context, view=number)
        features = self.features(view, samples, context, number)
        projections = project_and_relate(features, self.projector, relate, rules)
        self.projections = projections.detach()
        return per_row(self.predictor, projections, rules.batch_norm)

    @torch.no_grad()
    def key(self, view: Tensor, samples: Samples, context: StepContext, number: int) -> Tensor:
        """(N, 3, H, W) -> keys (S, N, P) of this device, unit length."""
        relation = self.relation
        relate = partial(relation.keys, samples=samples, context=context, view=number)
        features = relation.features(self.slow_backbone, view, samples, context, "key", number)
        keys = project_and_relate(features, self.slow_projector, relate, relation.rules)
        return unit_length(keys)

    def negatives(self, keys: Tensor, count: int) -> list[list[Negatives]]:
        """For each stream of `keys` (S, W * N, P), those of the same stream; `count` is N."""
        return [[batch_negatives(stream, count)] for stream in keys]

    def slow_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Backbone and projector of the key encoder; the predictor has no slow copy."""
        return [(self.slow_backbone, self.backbone), (self.slow_projector, self.projector)]

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
from ssl_bf.losses.info_nce import info_nce
from ssl_bf.losses.unit_length import unit_length
from ssl_bf.methods.method import Method
from ssl_bf.methods.ranges import check_ranges
from ssl_bf.parts.batch_norm import set_batch_norm_mode
from ssl_bf.parts.gathered_keys import gather_keys, own_share
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.parts.mlp_head import mlp_head
from ssl_bf.parts.negatives import batch_negatives
from ssl_bf.parts.slow_copy import make_slow_copy
from ssl_bf.relations import RelationConfig
from ssl_bf.relations.streams import mean_over_stream_pairs, per_row, project_and_relate


@dataclass(frozen=True, kw_only=True)
class MoCoV3Config:
    """Keys of MoCo-v3; defaults are the published ResNet-50 values (100 epochs)."""

    name: Literal["moco_v3"] = "moco_v3"
    temperature: float = 1.0
    momentum: float = 0.99
    momentum_schedule: Literal["constant", "cosine"] = "cosine"
    projection_dim: int = 256
    hidden_dim: int = 4096
    batch_norm: str = "synchronised"

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        check_ranges(self)

    def build(
        self, backbone: nn.Module, width: int, relation: RelationConfig, seed: int
    ) -> "MoCoV3":
        """Make the method around a backbone (N, 3, H, W) -> (N, width)."""
        return MoCoV3(self, backbone, width, relation, seed)


class MoCoV3(Method):
    """Query encoder with predictor, slow key encoder; the heads are those for ResNets."""

    def __init__(
        self,
        config: MoCoV3Config,
        backbone: nn.Module,
        width: int,
        relation: RelationConfig,
        seed: int = 0,
    ) -> None:
        """Build heads and relation from `seed`; the slow copies start equal."""
        super().__init__()
        self.config = config
        self.backbone = backbone
        no_bias = partial(mlp_head, batch_norm=True, hidden_bias=False, last_bias=False)
        hidden, out = config.hidden_dim, config.projection_dim
        with initial_values(seed, "projector"):
            self.projector = no_bias([width, hidden, out], last_batch_norm="affine_free")
        with initial_values(seed, "predictor"):
            self.predictor = no_bias([out, hidden, out])
        with initial_values(seed, "relation"):
            self.relation = relation.build(width, out, has_key_side=True)
        self.slow_backbone = make_slow_copy(backbone)
        self.slow_projector = make_slow_copy(self.projector)
        set_batch_norm_mode(self, config.batch_norm)

    def forward(
        self, view_1: Tensor, view_2: Tensor, context: StepContext = StepContext()
    ) -> Tensor:
        """Sum of both directions, as published: ctr(q1, k2) + ctr(q2, k1)."""
        keys = torch.stack([self.key(view_1, context, 1), self.key(view_2, context, 2)])
        keys_1, keys_2 = gather_keys(keys)  # (S, W * N, P) each
        forth = self.settled(self.contrast(self.query(view_1, context, 1), keys_2))
        return forth + self.contrast(self.query(view_2, context, 2), keys_1)

    def query(self, view: Tensor, context: StepContext, number: int) -> Tensor:
        """(N, 3, H, W) -> predictions (S, N, P) with gradient."""
        rules = self.relation.rules
        relate = partial(self.relation.queries, context=context, view=number)
        projections = project_and_relate(self.features(view), self.projector, relate, rules)
        self.projections = projections.detach()
        return per_row(self.predictor, projections, rules.batch_norm)

    @torch.no_grad()
    def key(self, view: Tensor, context: StepContext, number: int) -> Tensor:
        """(N, 3, H, W) -> keys (S, N, P) of this device, unit length."""
        relate = partial(self.relation.keys, context=context, view=number)
        return unit_length(
            project_and_relate(
                self.slow_backbone(view), self.slow_projector, relate, self.relation.rules
            )
        )

    def contrast(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Queries (S, N, P) against keys (S, W * N, P), stream by stream; times 2 * temperature."""
        temperature, count = self.config.temperature, queries.shape[1]

        def loss(queries: Tensor, key: Tensor, key_stream: int) -> Tensor:
            negatives = batch_negatives(keys[key_stream], count)  # of the key's own stream only
            return info_nce(queries, key, [negatives], temperature)

        own = keys[:, own_share(count)]
        pairs = mean_over_stream_pairs(loss, queries, own, self.relation.rules)
        return 2 * temperature * pairs

    def slow_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Backbone and projector of the key encoder; the predictor has no slow copy."""
        return [(self.slow_backbone, self.backbone), (self.slow_projector, self.projector)]

"""SimSiam: predict one view's projection from the other's, with a stop-gradient.

Source: Chen & He 2021 (arXiv 2011.10566), facebookresearch/simsiam a7bc177. BatchFormer with
SimSiam is this project's own combination. Shapes: N local batch, S streams, P projection width.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from ssl_bf.keyed_random import StepContext
from ssl_bf.layers.batch_norm import set_batch_norm_mode
from ssl_bf.layers.mlp_head import mlp_head
from ssl_bf.losses.negative_cosine import negative_cosine
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.geometry import Observed
from ssl_bf.methods.keys import MethodKeys
from ssl_bf.methods.method import Method, Start
from ssl_bf.methods.ranges import check_ranges
from ssl_bf.relations.streams import mean_over_stream_pairs, per_row, project_and_relate
from ssl_bf.relations.surroundings import Samples


@dataclass(frozen=True, kw_only=True)
class SimSiamConfig(MethodKeys):
    """Keys of SimSiam; defaults are the published ImageNet values."""

    name: Literal["simsiam"] = "simsiam"
    projection_dim: int = 2048  # width P of projections
    hidden_dim: int | None = None  # of the projector; null: the backbone's width, as published
    hidden_layers: int = 2  # of the projector; 1 in the published CIFAR-10 recipe
    predictor_hidden_dim: int = 512  # width of the predictor's hidden layer
    constant_predictor_rate: bool = True  # the predictor's learning rate does not decay
    # local, synchronised (all devices) or groups:G of a device's rows
    batch_norm: str = "synchronised"

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, start: Start) -> "SimSiam":
        """Make the method."""
        return SimSiam(self, start)


class SimSiam(Method):
    """One network for both views, and a predictor; no slow copy, no negatives.

    Differs: the bias before the projector's last BatchNorm, which the published code freezes at
    random values, is kept (frozen) so that its weights load; it has no effect in training.
    """

    config: SimSiamConfig

    def __init__(self, config: SimSiamConfig, start: Start) -> None:
        """Build heads and relation."""
        super().__init__()
        self.config = config
        if not config.constant_predictor_rate:
            self.suspects = {
                "collapse": "the predictor's learning rate decays; set "
                "method.constant_predictor_rate=true"
            }
        self.backbone = start.backbone
        hidden = [config.hidden_dim or start.width] * config.hidden_layers
        out = config.projection_dim
        with start.initial_values("projector"):
            self.projector = mlp_head(
                [start.width, *hidden, out],
                batch_norm=True,
                hidden_bias=False,
                last_bias=True,
                last_batch_norm="affine_free",
            )
        last_linear = self.projector[-2]
        assert isinstance(last_linear, nn.Linear)
        last_linear.bias.requires_grad_(False)
        with start.initial_values("predictor"):
            self.predictor = mlp_head(
                [out, config.predictor_hidden_dim, out],
                batch_norm=True,
                hidden_bias=False,
                last_bias=True,
            )
        self.relation = start.build_relation(out, has_key_side=False)
        self.recentre: nn.Sequential | None = None
        if self.relation.may_be_constant and self.relation.rules.insert_at == "projection":
            # Without it a constant related stream would satisfy the loss.
            self.recentre = nn.Sequential(nn.BatchNorm1d(out, affine=False))
        set_batch_norm_mode(self, config.batch_norm)

    def forward(self, batch: Batch, context: StepContext = StepContext()) -> Tensor:
        """Mean of both directions: (D(p1, z2) + D(p2, z1)) / 2, in [-1, 1]."""
        (view_1, view_2), samples = batch.views, batch.samples
        projections_1 = self.project(view_1, samples, context, 1)
        projections_2 = self.project(view_2, samples, context, 2)
        predictions_1, predictions_2 = self.predict(projections_1), self.predict(projections_2)
        self.observed = Observed(predictions_1.detach(), projections_2.detach(), batch.image_ids)
        rules = self.relation.rules  # targets are detached in the loss
        forth = mean_over_stream_pairs(negative_cosine, predictions_1, projections_2, rules)
        back = mean_over_stream_pairs(negative_cosine, predictions_2, projections_1, rules)
        return (forth + back) / 2

    def project(self, view: Tensor, samples: Samples, context: StepContext, number: int) -> Tensor:
        """(N, 3, H, W) -> projections z (S, N, P): the source of predictions and the targets."""
        relation = self.relation
        is_query = relation.rules.relates_queries
        features = self.features(view, samples, context, number, "query" if is_query else "key")
        side = relation.queries if is_query else relation.keys
        relate = partial(side, samples=samples, context=context, view=number)
        projections = project_and_relate(features, self.projector, relate, relation.rules)
        if self.recentre is not None and len(projections) > 1:
            projections = torch.stack([projections[0], self.recentre(projections[1])])
        self.projections = projections.detach()
        return projections

    def predict(self, projections: Tensor) -> Tensor:
        """(S, N, P) -> predictions p (S, N, P), of the streams that serve as queries."""
        rules = self.relation.rules
        queries = projections if rules.relates_queries else projections[:1]
        return per_row(self.predictor, queries, rules.batch_norm)

    def slow_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """No slow copies."""
        return []

    def constant_rate_modules(self) -> list[nn.Module]:
        """The predictor's learning rate does not decay (published as `--fix-pred-lr`)."""
        return [self.predictor] if self.config.constant_predictor_rate else []

    def notes(self) -> list[str]:
        """Say once what means something else without a key side."""
        notes = super().notes()
        if any(p.requires_grad for p in self.relation.parameters()):
            notes.append(
                "SimSiam has no key side: relation.parameters ema and shared both mean trained"
            )
        return notes

"""Metric learning: images of a class close together, so that classes never seen separate too.

Source: Hyp-ViT (arXiv 2203.10833) and SissiW/DyBGR 819a54f for head and pair loss; BGFormer as
batch relation (arXiv 2211.10622), of which only the abstract could be had.
Shapes: N local batch, W devices, S streams, P projection width.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor, nn

from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import StepContext
from ssl_bf.layers.batch_norm import notes_on_frozen, set_batch_norm_mode
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.keys import MethodKeys
from ssl_bf.methods.method import Method, Start
from ssl_bf.methods.metric_losses import MetricLossConfig, PairsConfig, ProxyAnchorConfig
from ssl_bf.methods.ranges import check_ranges
from ssl_bf.optimizers import ParameterGroup
from ssl_bf.parts.gathered_rows import gather_rows
from ssl_bf.relations.streams import mean_over_stream_pairs, project_and_relate
from ssl_bf.shards.shard import all_gather_rows


@dataclass(frozen=True, kw_only=True)
class MetricConfig(MethodKeys):
    """Keys of metric learning with labels."""

    needs_labels: ClassVar[bool] = True

    name: Literal["metric"] = "metric"
    loss: MetricLossConfig = field(default_factory=PairsConfig)  # over all pairs of rows
    projection_dim: int = 128  # width of the head, whose output the loss compares
    # local, synchronised (all devices), groups:G of a device's rows, or frozen: running statistics
    batch_norm: str = "local"

    def __post_init__(self) -> None:
        check_ranges(self, may_freeze=True)

    def build(self, start: Start) -> "Metric":
        """Make the method.

        Raises:
            InputError: the relation weighs related keys.
        """
        return Metric(self, start)


class Metric(Method):
    """One view, one linear head for all streams, a loss over the batch of all devices.

    Labels have no related stream: the first column of `relation.pairs` weighs the streams, so
    [[alpha, 0], [1 - alpha, 0]] is BGFormer's alpha L(plain) + (1 - alpha) L(related).

    Differs: after training the head is thrown away, as in the rest of this suite; published tables
    often show the better of head and backbone.
    """

    views_per_image = 1
    config: MetricConfig

    def __init__(self, config: MetricConfig, start: Start) -> None:
        """Build head, relation and loss."""
        super().__init__()
        self.config = config
        self.backbone = start.backbone
        head = nn.Linear(start.width, config.projection_dim)
        with start.initial_values("projector"):
            nn.init.orthogonal_(head.weight)
            nn.init.zeros_(head.bias)
        self.projector = head
        self.relation = start.build_relation(config.projection_dim, has_key_side=False)
        if self.relation.rules.relates_keys:
            raise InputError(
                f"relation.pairs: {self.relation.rules.pairs} weighs related keys, and labels have "
                "no related stream; set plain_keys, or weights whose second column is 0"
            )
        with start.initial_values("proxies"):
            self.loss = config.loss.build(len(start.classes.names), config.projection_dim)
        self.needs_pairs = config.loss.needs_pairs
        set_batch_norm_mode(self, config.batch_norm)

    def forward(self, batch: Batch, context: StepContext = StepContext()) -> Tensor:
        """Compare the rows of all devices; each computes the whole loss."""
        assert batch.labels is not None
        [view] = batch.views
        streams = self.project(view, batch, context)
        rows = gather_rows(streams.transpose(0, 1)).transpose(0, 1)  # (S, W * N, P)
        labels = all_gather_rows(batch.labels).unsqueeze(0)
        return mean_over_stream_pairs(self.loss, rows, labels, self.relation.rules)

    def project(self, view: Tensor, batch: Batch, context: StepContext) -> Tensor:
        """(N, 3, H, W) -> (S, N, P) with gradient."""
        samples = batch.samples
        relate = partial(self.relation.queries, samples=samples, context=context, view=1)
        features = self.features(view, samples, context, 1)
        streams = project_and_relate(features, self.projector, relate, self.relation.rules)
        self.projections = streams.detach()
        return streams

    def slow_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """No slow copies."""
        return []

    def parameter_groups(self) -> list[ParameterGroup]:
        """Proxies have a learning rate of their own."""
        network, *others = super().parameter_groups()
        loss = self.config.loss
        if not isinstance(loss, ProxyAnchorConfig):
            return [network, *others]
        of_loss = {id(parameter) for parameter in self.loss.parameters()}
        main = [pair for pair in network.parameters if id(pair[1]) not in of_loss]
        proxies = [pair for pair in network.parameters if id(pair[1]) in of_loss]
        return [
            ParameterGroup("network", main),
            ParameterGroup("proxies", proxies, loss.lr_scale),
            *others,
        ]

    def notes(self) -> list[str]:
        """Say what means something else without a key side, and what frozen statistics are of."""
        notes = [*super().notes(), *notes_on_frozen(self.backbone)]
        if any(p.requires_grad for p in self.relation.parameters()):
            notes.append(
                "metric has no key side: relation.parameters ema and shared both mean trained"
            )
        return notes

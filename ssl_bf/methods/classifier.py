"""Supervised training with one classifier for all streams: cross-entropy, balanced or with margins.

Source: Hou et al. 2022 (BatchFormer, arXiv 2203.01522), whose shared classifier this is. A label is
a key that is always plain: the first column of `relation.pairs` weighs the streams, and tables with
a second column are refused. Shapes: N local batch, S streams, D feature width, C classes.
"""

from dataclasses import dataclass, replace
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
from ssl_bf.layers.batch_norm import notes_on_frozen, set_batch_norm_mode
from ssl_bf.losses.unit_length import unit_length
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.class_loss import ClassLoss
from ssl_bf.methods.keys import MethodKeys
from ssl_bf.methods.method import Method, Start
from ssl_bf.methods.ranges import check_ranges
from ssl_bf.optimizers import ParameterGroup
from ssl_bf.parts.layer_rates import by_layer
from ssl_bf.parts.weight_average import WeightAverage
from ssl_bf.relations.streams import mean_over_stream_pairs
from ssl_bf.relations.surroundings import Samples
from ssl_bf.schedules import Elapsed


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(MethodKeys):
    """Keys of the classifier; the defaults are plain cross-entropy."""

    needs_labels: ClassVar[bool] = True

    name: Literal["classifier"] = "classifier"
    # tau: adds tau * log(share of its images) to a class's logit, in training alone;
    # 0: cross-entropy, 1: balanced softmax, which is logit adjustment
    prior: float = 0.0
    label_smoothing: float = 0.0  # share of the target that all classes have in equal parts
    # of LDAM: that of the rarest class (published: 0.5), features and weights of length 1; 0: none
    margin: float = 0.0
    margin_scale: float | None = None  # of the cosines, with margin; null: 30
    # share of training after which rare classes weigh more (LDAM-DRW: 0.8); 1: never
    reweight_from: float = 1.0
    # each layer's learning rate over that of the next, the classifier's being whole; 1: all alike
    layer_decay: float = 1.0
    # share of training in which the classifier alone is trained, on a backbone as it is given
    probe_until: float = 0.0
    # share of training after which the weights of all steps are averaged and kept; 1: never
    average_from: float = 1.0
    # local, synchronised (all devices), groups:G of a device's rows, or frozen: running statistics
    batch_norm: str = "local"

    def __post_init__(self) -> None:
        """Refuse what is out of range, and a key that nothing would read."""
        check_ranges(self, may_freeze=True)
        for name in ("prior", "margin"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: must be >= 0, got {getattr(self, name)}")
        for name in ("label_smoothing", "probe_until"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: must lie in [0, 1), got {getattr(self, name)}")
        for name in ("reweight_from", "average_from"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must lie in [0, 1], got {getattr(self, name)}")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay: must lie in (0, 1], got {self.layer_decay}")
        if self.margin_scale is not None and self.margin == 0:
            raise ValueError("margin_scale: does nothing with margin=0; leave it out")
        if self.margin_scale is not None and self.margin_scale <= 0:
            raise ValueError(f"margin_scale: must be > 0, got {self.margin_scale}")

    @property
    def kept_backbone(self) -> str:
        """The averaged one, where weights are averaged."""
        return "backbone" if self.average_from == 1 else "averaged_backbone.average"

    def build(self, start: Start) -> "Classifier":
        """Make the method.

        Raises:
            InputError: a class has no image, or the relation has no place here.
        """
        start.classes.require_images()
        return Classifier(self, start)


class Classifier(Method):
    """A backbone, the relation behind it, and one linear layer that all streams share."""

    views_per_image: ClassVar[int] = 1

    config: ClassifierConfig
    answered: tuple[Tensor, Tensor] | None = None  # (S, N, C) logits, labels: for monitoring

    def __init__(self, config: ClassifierConfig, start: Start) -> None:
        """Build the layer and the relation.

        Raises:
            InputError: see `ClassifierConfig.build`.
        """
        super().__init__()
        self.config = config
        self.class_names = start.classes.names
        self.backbone = start.backbone
        with start.initial_values("fc"):
            # of images without labels, which are refused in a moment, one
            num_classes = max(1, len(self.class_names))
            self.fc = nn.Linear(start.width, num_classes, bias=config.margin == 0)
        self.relation = start.build_relation(start.width, has_key_side=False)
        self._check_relation()
        self.loss = ClassLoss(config, start.classes.counts or (1,))
        set_batch_norm_mode(self, config.batch_norm)
        self.averaged_backbone = self.averaged_fc = None
        if config.average_from < 1:
            self.averaged_backbone = WeightAverage(self.backbone)
            self.averaged_fc = WeightAverage(self.fc)

    def forward(self, batch: Batch, context: StepContext = StepContext()) -> Tensor:
        """Cross-entropy of the streams' logits with the labels, weighed as the pairs say."""
        assert batch.labels is not None, "labels are needed"
        (view,) = batch.views
        features = self._features(view, batch.samples, context)
        streams = self.relation.queries(features, batch.samples, context, 1)  # (S, N, D)
        logits = self.logits(streams)
        self.projections, self.answered = streams.detach(), (logits.detach(), batch.labels)
        loss = partial(self.loss, elapsed=context.elapsed)
        return mean_over_stream_pairs(loss, logits, batch.labels[None], self.relation.rules)

    def logits(self, features: Tensor) -> Tensor:
        """(S, N, D) -> (S, N, C), without prior and margins; with margins scaled cosines."""
        return self.loss.logits(features, self.fc)

    def _features(self, view: Tensor, samples: Samples, context: StepContext) -> Tensor:
        """Features of the backbone, or streams of a relation inside it; while probing, frozen."""
        if not self.training or context.elapsed >= self.config.probe_until:
            return self.features(view, samples, context, 1)
        self.backbone.eval()
        with torch.no_grad():
            features = self.features(view, samples, context, 1)
        self.backbone.train()
        return features

    def slow_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """No slow copies: an average of weights moves by a rule of its own."""
        return []

    def after_step(self, progress: Elapsed) -> None:
        """Also move the averages, where there are any."""
        super().after_step(progress)
        for average, module in (
            (self.averaged_backbone, self.backbone),
            (self.averaged_fc, self.fc),
        ):
            if average is not None:
                counts = bool(progress.epoch > self.config.average_from * progress.epochs)
                average.move(module, counts=counts)

    def changing_keys(self) -> list[str]:
        """Also the keys by which this method changes on the way."""
        config = self.config
        changes = {
            "method.reweight_from": 0 < config.reweight_from < 1,
            "method.probe_until": config.probe_until > 0,
            "method.average_from": config.average_from < 1,
        }
        return [*super().changing_keys(), *(key for key, is_set in changes.items() if is_set)]

    @property
    def skips_parameters(self) -> bool:
        """Also while probing."""
        return super().skips_parameters or self.config.probe_until > 0

    def parameter_groups(self) -> list[ParameterGroup]:
        """As of all methods, the layer apart, the backbone by layers where their rates differ.

        Apart, because torch's fused SGD fails where some of a group have stepped and others not,
        as when probing ends.
        """
        network, *others = super().parameter_groups()
        own = [(name, p) for name, p in network.parameters if name.startswith("fc.")]
        rest = [(name, p) for name, p in network.parameters if not name.startswith("fc.")]
        backbone = [replace(network, parameters=rest)] if rest else []
        if self.config.layer_decay < 1:
            backbone = by_layer(backbone, self.backbone, "backbone.", self.config.layer_decay)
        return [*backbone, ParameterGroup("classifier", own), *others]

    def notes(self) -> list[str]:
        """Say where frozen statistics come from no training."""
        return [*super().notes(), *notes_on_frozen(self.backbone)]

    def measurements(self) -> dict[str, float]:
        """Also `batch_top1/stream_s`: percent of the last batch that the logits get right."""
        if self.answered is None:
            return {}
        logits, labels = self.answered
        right = (logits.argmax(dim=2) == labels).float().mean(dim=1)
        shares = {f"batch_top1/stream_{s}": 100 * share for s, share in enumerate(right.tolist())}
        return super().measurements() | shares

    def trained_classifier(self) -> TrainedClassifier:
        """The layer as a file holds it, for the kept backbone: its logits are those of `logits`."""
        fc = self.fc if self.averaged_fc is None else self.averaged_fc.average
        assert isinstance(fc, nn.Linear)
        is_unit = self.loss.has_margins
        weight = self.loss.scale * unit_length(fc.weight) if is_unit else fc.weight
        info = ClassifierInfo(self.class_names, backbone_digest(self.kept_backbone), is_unit)
        bias = weight.new_zeros(len(weight)) if fc.bias is None else fc.bias
        return TrainedClassifier(weight.detach(), bias.detach(), info)

    def hand_over(self, path: Path, info: BackboneInfo) -> dict[str, Path]:
        """Write the classifier beside the backbone; the backbone, which ends a run, comes last."""
        beside = path.with_name(CLASSIFIER_FILE)
        save_classifier(beside, self.trained_classifier())
        return {"classifier": beside, **super().hand_over(path, info)}

    def _check_relation(self) -> None:
        rules = self.relation.rules
        if self.relation.relating is None:
            return
        if rules.relates_keys:
            raise InputError(
                f"relation.pairs: {rules.pairs} uses a related key, and labels have no related "
                "stream; set plain_keys, or weights with zeros behind: [[w, 0], [w, 0]]"
            )
        if rules.insert_at == "projection":
            raise InputError(
                "relation.insert_at: projection, but a classifier has no projector; set "
                "relation.insert_at=backbone"
            )

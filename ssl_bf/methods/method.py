"""The contract of an SSL method: a loss from a batch, and what follows the optimizer step.

Shapes: N local batch, S streams, P projection width.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from linear_eval.backbones.backbone_file import save_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import StepContext
from ssl_bf.layers.batch_norm import GroupedBatchNorm
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.classes import Classes
from ssl_bf.methods.geometry import Observed, spread
from ssl_bf.methods.keys import MethodSettings
from ssl_bf.methods.measurements import feature_std, relation_values
from ssl_bf.methods.parameter_groups import trained_groups
from ssl_bf.optimizers import ParameterGroup
from ssl_bf.parts.backbone_in_parts import features_in_parts, split_groups
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.parts.slow_copy import SlowCopies
from ssl_bf.relations.no_relation import NoRelationConfig
from ssl_bf.relations.relation import Relation, RelationSettings
from ssl_bf.relations.surroundings import Samples, Side
from ssl_bf.schedules import Elapsed, Momentum


@dataclass(frozen=True, eq=False)
class Start:
    """What a method is built from.

    Attributes:
        backbone: (N, 3, H, W) -> (N, width).
        width: of its features.
        relation: config of the batch relation.
        seed: of all initial values but the backbone's.
        classes: names and counts of the labelled images; none where there are no labels.
    """

    backbone: nn.Module
    width: int
    relation: RelationSettings = field(default_factory=NoRelationConfig)
    seed: int = 0
    classes: Classes = field(default_factory=Classes)

    def initial_values(self, part: str) -> AbstractContextManager[None]:
        """Inside, initial values depend on the seed and the part's name alone."""
        return initial_values(self.seed, part)

    def build_relation(self, projection_width: int, *, has_key_side: bool) -> Relation:
        """Make the relation; `has_key_side` is False where one network makes both sides."""
        with self.initial_values("relation"):
            return self.relation.build(
                self.width, projection_width, has_key_side=has_key_side, backbone=self.backbone
            )


class Method(nn.Module, ABC):
    """Owns every trained module once: backbone, heads, relation, slow copies, queues.

    A step is `loss = method(batch, context)`, backward, optimizer, `method.after_step(progress)`.
    `forward` writes BatchNorm buffers, and with `backward_per_view` gradients: zero them first.
    """

    views_per_image: ClassVar[int] = 2
    needs_pairs: bool = False  # of one class, in every batch: else the sampler is refused

    config: MethodSettings
    backbone: nn.Module
    projector: nn.Module
    relation: Relation
    momentum: Momentum | None = None  # None: there are no slow copies
    projections: Tensor | None = None  # (S, N, P) of the last forward, detached: for monitoring
    observed: Observed | None = None  # of the last forward: for monitoring
    temperature: float = 1.0  # divides the cosines in the loss; below: for health/rules.py
    queue_size: int = 0  # rows of a queue; 0: there is none
    suspects: Mapping[str, str] = {}  # settings that can cause a finding, by its rule
    backward_per_view: bool = False
    accumulate: int = 1  # parts in which the trained backbone runs; see compute_in_parts

    @abstractmethod
    def forward(self, batch: Batch, context: StepContext = StepContext()) -> Tensor:
        """A batch to a scalar loss; `context` keys the randomness of the step."""

    @property
    def has_separate_terms(self) -> bool:
        """Whether the loss is a sum of terms that share no graph, each `settled` but the last."""
        return False

    def features(
        self,
        view: Tensor,
        samples: Samples,
        context: StepContext,
        number: int,
        side: Side = "query",
    ) -> Tensor:
        """(N, 3, H, W) -> (N, D): the trained backbone, the only thing that runs in parts.

        With a relation inside the backbone, streams (S, N, D) of that side.
        """
        if self.accumulate == 1:
            return self.relation.features(self.backbone, view, samples, context, side, number)
        return features_in_parts(self.backbone, view, self.accumulate)

    def settled(self, term: Tensor) -> Tensor:
        """A term of the loss; with `backward_per_view` its gradient is added now, its graph freed.

        Exact where the terms share no graph. DDP reduces with the last term's backward only.
        """
        if not (self.backward_per_view and term.requires_grad):
            return term
        with torch.autocast(term.device.type, enabled=False):  # backward belongs outside
            torch.autograd.backward(term)
        return term.detach()

    def compute_in_parts(self, parts: int, local_batch: int) -> None:
        """Run the trained backbone over `parts` equal parts of the batch (gradient accumulation).

        Slow copies keep no activations and see the whole batch, so that BatchNorm cannot tell
        which images shared a part.

        Raises:
            InputError: `parts` does not cut a batch that `check_batch` accepts.
        """
        split_groups(self.backbone, parts, local_batch)
        self.accumulate = parts

    def compile_backbones(self) -> None:
        """Compile the calls of the backbone and its slow copy; names and values stay."""
        slow = [copied for copied, source in self.slow_pairs() if source is self.backbone]
        for module in [self.backbone, *slow]:
            module.compile()

    @abstractmethod
    def slow_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """(slow copy, what it follows), without the relation's own."""

    def push_keys(self) -> None:
        """Hand the keys of the last forward to the queue, where there is one."""

    def move_slow_copies(self, momentum: float | Tensor) -> None:
        """Move every slow copy towards its source; momentum 1 leaves them."""
        self._slow_copies.move(momentum)

    @cached_property
    def _slow_copies(self) -> SlowCopies:
        return SlowCopies([*self.slow_pairs(), *self.relation.slow_pairs()])

    def after_step(self, progress: Elapsed) -> None:
        """Follow the optimizer step; `progress` is that of the next step, whose keys use this."""
        self.push_keys()
        self.relation.after_step()
        if self.momentum is not None:
            self.move_slow_copies(self.momentum.at(progress))

    def scheduled_values(self, progress: Elapsed) -> dict[str, float | Tensor]:
        """What follows from how far the run is, for the log."""
        return {} if self.momentum is None else {"momentum": self.momentum.at(progress)}

    def parameter_groups(self) -> list[ParameterGroup]:
        """Trainable parameters by learning-rate rule; each exactly once."""
        return trained_groups(self, self.constant_rate_modules(), self.relation)

    def constant_rate_modules(self) -> list[nn.Module]:
        """Modules whose learning rate stays at its peak (SimSiam's predictor)."""
        return []

    def changing_keys(self) -> list[str]:
        """Keys of the config by which steps differ in kind."""
        return [] if self.relation.is_always_active else ["relation.active"]

    @property
    def skips_parameters(self) -> bool:
        """Whether some steps give no gradient to something that is trained."""
        return not self.relation.is_always_active

    @property
    def needs_labels(self) -> bool:
        """Whether an unlabelled data set is refused."""
        return self.config.needs_labels

    @property
    def kept_backbone(self) -> nn.Module:
        """The backbone that is judged and handed over."""
        return self.get_submodule(self.config.kept_backbone)

    def hand_over(self, path: Path, info: BackboneInfo) -> dict[str, Path]:
        """Write the stripped backbone to `path`; returns what was written, by its name in words."""
        save_backbone(path, self.kept_backbone, info)
        return {"stripped backbone": path}

    def check_batch(self, local_batch: int, num_devices: int) -> None:
        """Refuse a batch that this method or its relation cannot work with.

        Raises:
            InputError: naming the key and a value that would do.
        """
        if local_batch < 2:
            raise InputError(
                f"batch_size: {local_batch} image per device, BatchNorm and contrast need at "
                "least 2; raise batch_size"
            )
        for groups in {m.groups for m in self.modules() if isinstance(m, GroupedBatchNorm)}:
            if local_batch % groups or local_batch == groups:
                raise InputError(
                    f"method.batch_norm: groups:{groups} does not cut the {local_batch} images per "
                    "device into equal groups of at least 2; choose another number of groups"
                )
        self.relation.check_batch(local_batch, num_devices)

    def notes(self) -> list[str]:
        """What a user should know about this combination of settings before it trains."""
        notes = []
        if self.accumulate > 1 and any(_normalises_parts(m) for m in self.backbone.modules()):
            notes.append(
                f"accumulate={self.accumulate}: BatchNorm of the trained backbone normalises each "
                "part of the batch by itself; all else sees the whole batch. The parts change "
                f"nothing with method.batch_norm=groups:{self.accumulate}, or a multiple of it"
            )
        if self.backward_per_view and not self.has_separate_terms:
            notes.append(
                f"speed.per_view_backward does nothing here: the loss of this {self.config.name} "
                "has no two terms that share no graph"
            )
        return notes

    def measurements(self) -> dict[str, float]:
        """Monitoring values of the last forward; reads from the device, so call it when logging."""
        if self.projections is None:
            return {}
        values = feature_std(self.projections) | spread(self.projections)
        values |= {} if self.observed is None else self.observed.measurements(self.temperature)
        return values | relation_values(self.relation)


def _normalises_parts(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and not isinstance(module, GroupedBatchNorm)

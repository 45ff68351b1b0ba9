"""The contract of a relation, and its two sides: queries and keys.

A relation maps features (N, D) to streams (S, N, D): stream 0 the plain features, bit for bit,
stream 1 the related ones. In evaluation only stream 0 exists, so stripping costs nothing.
Views are related one at a time; a relation never sees both views of an image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import StepContext
from ssl_bf.parts.slow_copy import make_slow_copy
from ssl_bf.relations.streams import StreamRules

Policy = Literal["ema", "shared", "frozen"]
Context = int | Literal["local"]
OnOff = Literal["on", "off"]


class RelationSettings(Protocol):
    """What other rooms ask of the config of a relation, whichever it is."""

    @property
    def name(self) -> str:
        """As `relation.name` gives it."""

    @property
    def title(self) -> str:
        """In a heading: with what a backbone was pretrained."""

    def build(
        self,
        backbone_width: int,
        projection_width: int,
        *,
        has_key_side: bool,
        backbone: nn.Module | None = None,
    ) -> Relation:
        """Make the relation from torch's global generator (the caller seeds).

        One that acts inside the backbone needs it; it keeps no part of it.
        """


class Relating(Protocol):
    """What a relation file builds: a module that makes the related stream."""

    def __call__(self, features: Tensor, order: Tensor | None, *, dropout: bool) -> Tensor:
        """(N, D) -> (N, D); `order` (N,) permutes rows into groups, None keeps them."""


@dataclass(frozen=True, kw_only=True)
class TwoStreamConfig(StreamRules):
    """Keys of every relation with two streams, and how it is built.

    A property stands for a key that acts in some relations only: those declare it as a field, all
    others have the value given here, which changes nothing.
    """

    name: str

    @property
    def title(self) -> str:
        """In a heading: with what a backbone was pretrained."""
        return f"with {self.name}"

    @property
    def parameters(self) -> Policy:
        """Whose parameters make the keys, and what trains; see `Relation`."""
        return "shared"

    @property
    def lr_scale(self) -> float:
        """The relation's learning rate over that of the rest, > 0."""
        return 1.0

    @property
    def key_dropout(self) -> OnOff:
        """Whether the key side drops out, with its own masks."""
        return "on"

    @property
    def context(self) -> Context:
        """Rows that see each other: groups of so many, or `local`: all of this logical shard."""
        return "local"

    @property
    def may_be_constant(self) -> bool:
        """Whether the related stream could satisfy SimSiam as a constant."""
        return True

    def relating(self, width: int) -> nn.Module:
        """Make the `Relating` module for features of this width; each relation says how."""
        raise NotImplementedError

    def build(
        self,
        backbone_width: int,
        projection_width: int,
        *,
        has_key_side: bool,
        backbone: nn.Module | None = None,
    ) -> Relation:
        """Make the relation from torch's global generator (the caller seeds)."""
        del backbone
        width = backbone_width if self.insert_at == "backbone" else projection_width
        return Relation(self, self.relating(width), has_key_side=has_key_side)


@dataclass(frozen=True, kw_only=True)
class TrainedRelationConfig(TwoStreamConfig):
    """Further keys of a relation that has parameters."""

    parameters: Policy = "ema"
    lr_scale: float = 1.0  # the relation's learning rate over that of the rest

    def __post_init__(self) -> None:
        """Refuse a learning rate that is not positive."""
        super().__post_init__()
        if self.lr_scale <= 0:
            raise ValueError(f"lr_scale: must be > 0, got {self.lr_scale}")


class Relation(nn.Module):
    """Owns the relating module once, with the slow copy its keys need, if any.

    `relating` is None for the relation `none`; everything is plain then. Parameter policy:
    `ema` keys use a slow copy, `shared` keys use the very same object, `frozen` nothing trains.
    """

    def __init__(
        self, config: TwoStreamConfig, relating: nn.Module | None, *, has_key_side: bool
    ) -> None:
        """Take the module over.

        Args:
            config: keys of the relation.
            relating: a `Relating` module, or None.
            has_key_side: False where queries and targets come from one network (SimSiam).
        """
        super().__init__()
        self.relating = relating
        self.rules: StreamRules = config
        self.lr_scale = config.lr_scale
        self.context = config.context
        self.drops_keys = config.key_dropout == "on"
        self.may_be_constant = relating is not None and config.may_be_constant
        self.slow_relating: nn.Module | None = None
        if relating is None:
            return
        if config.parameters == "frozen" or not config.relates_queries:
            relating.requires_grad_(False)  # nothing would ever reach them
        if config.parameters == "ema" and has_key_side and config.relates_keys:
            self.slow_relating = make_slow_copy(relating)

    def queries(self, features: Tensor, context: StepContext, view: int) -> Tensor:
        """(N, D) -> (S, N, D) with gradient; S is 2 when related queries are trained on."""
        if self.relating is None or not self.training or not self.rules.relates_queries:
            return features.unsqueeze(0)
        return self._streams(self.relating, features, context, f"query/{view}", dropout=True)

    def keys(self, features: Tensor, context: StepContext, view: int) -> Tensor:
        """(N, D) -> (S, N, D) on the key side, regrouped independently of the queries."""
        if self.relating is None or not self.training or not self.rules.relates_keys:
            return features.unsqueeze(0)
        module = self.slow_relating if self.slow_relating is not None else self.relating
        return self._streams(module, features, context, f"key/{view}", dropout=self.drops_keys)

    def query_features(
        self, backbone: nn.Module, images: Tensor, context: StepContext, view: int
    ) -> Tensor:
        """(N, 3, H, W) -> what `queries` takes; only a relation inside the backbone reads more."""
        del context, view
        features: Tensor = backbone(images)
        return features

    def key_features(
        self, backbone: nn.Module, images: Tensor, context: StepContext, view: int
    ) -> Tensor:
        """(N, 3, H, W) -> what `keys` takes; `backbone` is that of the keys."""
        del context, view
        features: Tensor = backbone(images)
        return features

    def check_whole_backbone(self, asked: str, instead: str) -> None:
        """Refuse what needs a backbone that runs as a whole, where it does not.

        Args:
            asked: `KEY: what it is`.
            instead: `KEY=VALUE` that would do.

        Raises:
            InputError: the relation acts inside the backbone.
        """

    def slow_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """(slow, fast) modules to move after a step; empty unless `parameters: ema`."""
        if self.slow_relating is None or self.relating is None:
            return []
        return [(self.slow_relating, self.relating)]

    def check_batch(self, local_batch: int) -> None:
        """Refuse a batch that its groups do not divide.

        Raises:
            InputError: naming the key and what would do.
        """
        if isinstance(self.context, int) and local_batch % self.context:
            raise InputError(
                f"relation.context: groups of {self.context} do not divide the {local_batch} "
                "images per device; choose a divisor of it, or 'local'"
            )

    def _streams(
        self,
        relate: Callable[..., Tensor],
        features: Tensor,
        context: StepContext,
        purpose: str,
        *,
        dropout: bool,
    ) -> Tensor:
        order = None
        if isinstance(self.context, int):
            order = context.permutation(f"groups/{purpose}", len(features))
            order = order.to(features.device, non_blocking=True)
        related = relate(features, order, dropout=dropout)
        return torch.stack([features, related.to(features.dtype)])

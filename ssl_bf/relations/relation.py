"""The contract of a relation, and its two sides: queries and keys.

A relation maps features (N, D) to streams (S, N, D): stream 0 the plain features, bit for bit,
stream 1 the related ones. In evaluation only stream 0 exists, so stripping costs nothing.
Views are related one at a time; a relation never sees both views of an image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from ssl_bf.keyed_random import StepContext
from ssl_bf.parts.slow_copy import make_slow_copy
from ssl_bf.relations.streams import PLAIN, StreamRules


class Relating(Protocol):
    """What a relation file builds: a module that makes the related stream."""

    def __call__(self, features: Tensor, order: Tensor | None, *, dropout: bool) -> Tensor:
        """(N, D) -> (N, D); `order` (N,) permutes rows into groups, None keeps them."""


@dataclass(frozen=True, kw_only=True)
class TwoStreamConfig(StreamRules):
    """Keys that every relation with two streams has."""

    parameters: Literal["ema", "shared", "frozen"] = "ema"
    lr_scale: float = 1.0  # the relation's learning rate over that of the rest
    key_dropout: Literal["on", "off"] = "on"
    context: int | Literal["local"] = "local"

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        super().__post_init__()
        if self.lr_scale <= 0:
            raise ValueError(f"lr_scale: must be > 0, got {self.lr_scale}")
        if isinstance(self.context, int) and self.context < 2:
            raise ValueError(f"context: a group needs at least 2 rows, got {self.context}")


class Relation(nn.Module):
    """Owns the relating module once, with the slow copy its keys need, if any.

    `relating` is None for the relation `none`; everything is plain then. Parameter policy:
    `ema` keys use a slow copy, `shared` keys use the very same object, `frozen` nothing trains.
    """

    def __init__(
        self,
        relating: nn.Module | None,
        rules: StreamRules = PLAIN,
        *,
        parameters: Literal["ema", "shared", "frozen"] = "shared",
        has_key_side: bool = True,
        key_dropout: bool = True,
        context: int | Literal["local"] = "local",
        recentre: bool = False,
    ) -> None:
        """Take the module over; see `TwoStreamConfig` for the keys.

        Args:
            relating: a `Relating` module, or None.
            rules: placement and pairs.
            parameters: see the class.
            has_key_side: False where queries and targets come from one network (SimSiam).
            key_dropout: whether the key side drops out, with its own masks.
            context: group size, or `local` for all rows of this logical shard.
            recentre: whether the related stream could satisfy SimSiam as a constant.
        """
        super().__init__()
        self.relating = relating
        self.rules = rules
        self.context: int | Literal["local"] = context
        self.key_dropout = key_dropout
        self.recentre = recentre
        self.slow_relating: nn.Module | None = None
        if relating is None:
            return
        if parameters == "frozen" or not rules.relates_queries:
            relating.requires_grad_(False)  # nothing would ever reach them
        if parameters == "ema" and has_key_side and rules.relates_keys:
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
        return self._streams(module, features, context, f"key/{view}", dropout=self.key_dropout)

    def slow_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """(slow, fast) modules to move after a step; empty unless `parameters: ema`."""
        if self.slow_relating is None or self.relating is None:
            return []
        return [(self.slow_relating, self.relating)]

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

"""The contract of a relation, and its two sides: queries and keys.

A relation maps features (N, D) to streams (S, N, D): stream 0 the plain features, bit for bit,
stream 1 the related ones. In evaluation only stream 0 exists, so stripping costs nothing.
Views are related one at a time; a relation never sees both views of an image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import StepContext
from ssl_bf.layers.attention_weights import Attention
from ssl_bf.parts.slow_copy import make_slow_copy
from ssl_bf.relations.gate import Gated
from ssl_bf.relations.keys import TwoStreamKeys
from ssl_bf.relations.streams import StreamRules
from ssl_bf.relations.surroundings import Beside, Noted, Samples, Side, Surroundings


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
        """Make the relation from torch's global generator; one inside the backbone needs that."""


class Relation(nn.Module):
    """Owns the relating module once, with the slow copy its keys need, if any.

    `relating` is None for the relation `none`; everything is plain then. Parameter policy:
    `ema` keys use a slow copy, `shared` keys use the very same object, `frozen` nothing trains.
    """

    is_inside = False  # the backbone, which then runs stage by stage
    drops_queries = True  # whether the query side drops out, as it does in training
    noted: Noted | None = None  # of the last view; of the keys' side where queries are plain

    def __init__(
        self,
        config: TwoStreamKeys,
        relating: nn.Module | None,
        *,
        has_key_side: bool,
        surroundings: Surroundings | None = None,
    ) -> None:
        """Take the modules over.

        Args:
            config: keys of the relation.
            relating: a `Relating` module, or None.
            has_key_side: False where queries and targets come from one network (SimSiam).
            surroundings: what `relating` sees beside the batch, if anything.
        """
        super().__init__()
        self.config = config
        self.relating = relating
        self.rules: StreamRules = config
        self.lr_scale = config.lr_scale
        self.context = config.context
        self.drops_keys = config.key_dropout == "on"
        self.may_be_constant = relating is not None and config.may_be_constant
        self.is_always_active = config.active == (0.0, 1.0)
        self.slow_relating: nn.Module | None = None
        self.surroundings = surroundings
        self.needs_labels = surroundings is not None and surroundings.needs_labels
        if relating is None:
            return
        if config.parameters == "frozen" or not config.relates_queries:
            relating.requires_grad_(False)  # nothing would ever reach them
        if config.parameters == "ema" and has_key_side and config.relates_keys:
            self.slow_relating = make_slow_copy(relating)

    def queries(
        self, features: Tensor, samples: Samples, context: StepContext, view: int
    ) -> Tensor:
        """(N, D) -> (S, N, D) with gradient; S is 2 when related queries are trained on."""
        relating = self.relating if self.rules.relates_queries else None
        return self._streams(relating, features, samples, context, "query", view)

    def keys(self, features: Tensor, samples: Samples, context: StepContext, view: int) -> Tensor:
        """(N, D) -> (S, N, D) on the key side, regrouped independently of the queries."""
        relating = self.slow_relating if self.slow_relating is not None else self.relating
        relating = relating if self.rules.relates_keys else None
        return self._streams(relating, features, samples, context, "key", view)

    def features(
        self,
        backbone: nn.Module,
        images: Tensor,
        samples: Samples,
        context: StepContext,
        side: Side,
        view: int,
    ) -> Tensor:
        """(N, 3, H, W) -> what that side takes: features (N, D) of the backbone."""
        del samples, context, side, view
        return backbone(images)  # type: ignore[no-any-return]

    def is_active(self, context: StepContext) -> bool:
        """Whether stream 1 exists in this step."""
        start, end = self.config.active
        return self.training and start <= context.elapsed < end

    def order(self, rows: Tensor, context: StepContext, side: Side, view: int) -> Tensor | None:
        """(N,) permutation that deals rows (N, ...) into groups; None: there are none."""
        if not isinstance(self.context, int):
            return None
        groups = f"groups/{side}/{view}"
        return context.permutation(groups, len(rows)).to(rows.device, non_blocking=True)

    def slow_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """(slow, fast) modules to move after a step; empty unless `parameters: ema`."""
        slow, fast = self.slow_relating, self.relating
        return [] if slow is None or fast is None else [(slow, fast)]

    def needs_slow_queries(self, context: StepContext) -> bool:
        """Whether `teach` must come before `queries` where the key side has not seen the view."""
        is_needed = self.surroundings is not None and self.surroundings.needs_slow_queries
        return is_needed and self.rules.relates_queries and self.is_active(context)

    def teach(self, slow: Tensor, samples: Samples, view: int) -> None:
        """Show the slow plain features (N, D) of a view, at the place of the relation."""
        if self.training and self.surroundings is not None:
            self.surroundings.observe(slow, samples, "key", view)

    def after_step(self) -> None:
        """Let the surroundings move on, where there are any."""
        if self.surroundings is not None:
            self.surroundings.after_step()

    def make_room(self, local_batch: int, image_size: int) -> None:
        """Give the state the size that it has with batches (N, 3, S, S); before the first step."""
        if self.surroundings is not None:
            self.surroundings.make_room(local_batch, image_size)

    def gate(self) -> nn.Parameter | None:
        """The scalar of `residual: gate`."""
        return self.relating.gate if isinstance(self.relating, Gated) else None

    def drop_nothing(self) -> None:
        """Switch every dropout of the relation off, for a picture of what it has learned."""
        self.drops_queries = self.drops_keys = False

    @torch.no_grad()
    def attention(self) -> list[Attention]:
        """Of each layer, place by place, for what was related last; dropout is off.

        Computed anew, with the parameters of now: after an update it is that of the next step. With
        `context: global` all processes must ask together.

        Returns:
            Nothing where nothing was related, or by something without attention.
        """
        slow = None if self.rules.relates_queries else self.slow_relating
        relating = self.relating if slow is None else slow
        if self.noted is None or relating is None:
            return []
        own = next(relating.parameters(), self.noted.streams)
        return self._attention(relating, self.noted, own.dtype)

    def check_batch(self, local_batch: int, num_devices: int) -> None:
        """Refuse a batch that its groups do not divide, or that is too small.

        Raises:
            InputError: naming the key and what would do.
        """
        if isinstance(self.context, int) and local_batch % self.context:
            raise InputError(
                f"relation.context: groups of {self.context} do not divide the {local_batch} "
                "images per device; choose a divisor of it, or 'local'"
            )
        rows = local_batch * (num_devices if self.context == "global" else 1)
        self.config.check_rows(self.context if isinstance(self.context, int) else rows)
        if self.surroundings is not None:
            self.surroundings.check_batch(local_batch, num_devices)

    def check_steps(self, steps_per_epoch: int, total_steps: int) -> None:
        """Refuse a run in which the relation would never act.

        Raises:
            InputError: naming the key and what would do.
        """
        start, end = self.config.active
        if not any(start <= step / total_steps < end for step in range(total_steps)):
            raise InputError(
                f"relation.active: {[start, end]} holds none of the {total_steps} steps of the "
                "run; make it longer"
            )
        if self.surroundings is not None:
            self.surroundings.check_steps(steps_per_epoch)

    def _attention(self, relating: nn.Module, noted: Noted, to: torch.dtype) -> list[Attention]:
        found: list[Attention] = []
        seen = {} if noted.beside is None else {"beside": noted.beside.to(to)}
        relating(noted.streams[0].to(to), noted.order, dropout=False, attention=found, **seen)
        return found

    def _note(self, side: Side, noted: Noted) -> None:
        if side == "query" or not self.rules.relates_queries:
            self.noted = noted

    def _streams(
        self,
        relating: Callable[..., Tensor] | None,
        features: Tensor,
        samples: Samples,
        context: StepContext,
        side: Side,
        view: int,
    ) -> Tensor:
        if self.training and self.surroundings is not None:
            self.surroundings.observe(features, samples, side, view)
        if relating is None or not self.is_active(context):
            self.noted = self.noted if self.is_active(context) else None
            return features.unsqueeze(0)
        order = self.order(features, context, side, view)
        dropout = self.drops_queries if side == "query" else self.drops_keys
        beside: Beside | None = None
        if self.surroundings is None:
            related = relating(features, order, dropout=dropout)
        else:
            beside = self.surroundings.beside(features, samples, side, view)
            related = relating(features, order, dropout=dropout, beside=beside)
        streams = torch.stack([features, related.to(features.dtype)])
        self._note(side, Noted(streams.detach(), order, view, samples.image_ids, beside))
        return streams

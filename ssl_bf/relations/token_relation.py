"""A relation inside the backbone: two streams from a place between its stages on.

Shapes: N local batch, S streams, L tokens, E their width, C channels, D width of the features.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from linear_eval.backbones.stages import Stage, stages
from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import StepContext
from ssl_bf.parts.batch_norm import frozen_running_statistics
from ssl_bf.relations.relation import Relation, TwoStreamConfig


class RelatingInside(Protocol):
    """What relates the samples at a place inside the backbone."""

    def __call__(
        self, values: Tensor, order: Tensor | None, number: int, *, dropout: bool
    ) -> Tensor:
        """Tokens (N, L, E) or a grid (N, C, H, W) -> the same shape; `number` is of the place."""


class TokenRelation(Relation):
    """Runs the backbone itself: stream 1 leaves stream 0 at the first place.

    The further places act on stream 1 alone. Features reach `queries` and `keys` as streams.
    """

    def __init__(
        self,
        config: TwoStreamConfig,
        relating: nn.Module,
        before: Sequence[int],
        *,
        has_key_side: bool,
    ) -> None:
        """Take the module over.

        Args:
            config: keys of the relation.
            relating: a `RelatingInside` module.
            before: numbers of stages before each place, rising.
            has_key_side: False where queries and targets come from one network (SimSiam).
        """
        super().__init__(config, relating, has_key_side=has_key_side)
        self.before = tuple(before)

    def query_features(
        self, backbone: nn.Module, images: Tensor, context: StepContext, view: int
    ) -> Tensor:
        """(N, 3, H, W) -> (S, N, D) with gradient, or (N, D) where queries are not related."""
        if self.relating is None or not self.training or not self.rules.relates_queries:
            return super().query_features(backbone, images, context, view)
        order = self._order(f"query/{view}", images, context)
        return self._streams_of(self.relating, backbone, images, order, dropout=True)

    def key_features(
        self, backbone: nn.Module, images: Tensor, context: StepContext, view: int
    ) -> Tensor:
        """(N, 3, H, W) -> (S, N, D), regrouped anew, or (N, D) where keys are not related."""
        if self.relating is None or not self.training or not self.rules.relates_keys:
            return super().key_features(backbone, images, context, view)
        module = self.slow_relating if self.slow_relating is not None else self.relating
        order = self._order(f"key/{view}", images, context)
        return self._streams_of(module, backbone, images, order, dropout=self.drops_keys)

    def queries(self, features: Tensor, context: StepContext, view: int) -> Tensor:
        """Streams as they are; (N, D) -> (1, N, D)."""
        del context, view
        return features if features.ndim == 3 else features.unsqueeze(0)

    def keys(self, features: Tensor, context: StepContext, view: int) -> Tensor:
        """Streams as they are; (N, D) -> (1, N, D)."""
        return self.queries(features, context, view)

    def check_whole_backbone(self, asked: str, instead: str) -> None:
        """Always refuse: the batch is in two streams inside the backbone."""
        raise InputError(
            f"{asked}, but with relation.insert_at=tokens the images of a batch meet inside the "
            f"backbone, which runs stage by stage; set {instead}, or another relation"
        )

    def _order(self, purpose: str, images: Tensor, context: StepContext) -> Tensor | None:
        """One for all places: samples that have met meet again."""
        if not isinstance(self.context, int):
            return None
        order = context.permutation(f"groups/{purpose}", len(images))
        return order.to(images.device, non_blocking=True)

    def _streams_of(
        self,
        relate: Callable[..., Tensor],
        backbone: nn.Module,
        images: Tensor,
        order: Tensor | None,
        *,
        dropout: bool,
    ) -> Tensor:
        cut = stages(backbone)
        plain = _run(cut[: self.before[0]], images)
        streams = torch.stack([plain, plain])
        ends = [*self.before[1:], len(cut)]
        for number, (start, end) in enumerate(zip(self.before, ends, strict=True)):
            related = relate(streams[1], order, number, dropout=dropout)
            streams = torch.stack([streams[0], related.to(streams.dtype)])
            streams = _run_streams(cut[start:end], streams, backbone, self.rules.batch_norm)
        return streams


def _run(some: Sequence[Stage], values: Tensor) -> Tensor:
    for stage in some:
        values = stage(values)
    return values


def _run_streams(
    some: Sequence[Stage],
    streams: Tensor,
    backbone: nn.Module,
    batch_norm: Literal["joint", "split"],
) -> Tensor:
    """(2, N, ...) -> (2, N, ...), as `per_row` does for a head."""
    if batch_norm == "split":
        plain = _run(some, streams[0])
        with frozen_running_statistics(backbone):
            return torch.stack([plain, _run(some, streams[1])])
    rows = _run(some, streams.transpose(0, 1).flatten(0, 1))  # image by image, as in `per_row`
    return rows.view(-1, 2, *rows.shape[1:]).transpose(0, 1)

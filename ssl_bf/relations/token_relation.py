"""A relation inside the backbone: two streams from a place between its stages on.

Shapes: N local batch, S streams, L tokens, E their width, C channels, D width of the features.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from linear_eval.backbones.stages import Stage, stages
from ssl_bf.keyed_random import StepContext
from ssl_bf.layers.attention_weights import Attention
from ssl_bf.layers.batch_norm import frozen_running_statistics
from ssl_bf.relations.keys import TwoStreamKeys
from ssl_bf.relations.previous_batch import PreviousTokens
from ssl_bf.relations.relation import Relation
from ssl_bf.relations.surroundings import Beside, Noted, Samples, Side


class RelatingInside(nn.Module, ABC):
    """What relates the samples at places inside the backbone."""

    gate: nn.Parameter | None  # of `residual: gate`, one for all places

    @abstractmethod
    def forward(
        self,
        values: Tensor,
        order: Tensor | None,
        number: int,
        *,
        dropout: bool,
        beside: Beside | None = None,
        attention: list[Attention] | None = None,
    ) -> Tensor:
        """Relate the samples of one view.

        Args:
            values: tokens (N, L, E), or a grid (N, C, H, W).
            order: (N,) permutation that deals the samples into groups, or None to keep them.
            number: of the place.
            dropout: False switches every dropout off.
            beside: what is seen instead of the other samples, rows as those of `values`; or None.
            attention: a list that the attention of each layer is added to, the mean over the
                positions; None: nobody asks.

        Returns:
            The shape of `values`.
        """


class TokenRelation(Relation):
    """Runs the backbone itself: stream 1 leaves stream 0 at the first place.

    The further places act on stream 1 alone. Features reach `queries` and `keys` as streams.
    """

    is_inside = True

    def __init__(
        self,
        config: TwoStreamKeys,
        relating: RelatingInside,
        before: Sequence[int],
        *,
        has_key_side: bool,
        previous: PreviousTokens | None = None,
    ) -> None:
        """Take the module over.

        Args:
            config: keys of the relation.
            relating: for all places.
            before: numbers of stages before each place, rising.
            has_key_side: False where queries and targets come from one network (SimSiam).
            previous: the batch that samples see instead of each other; None: they see each other.
        """
        super().__init__(config, relating, has_key_side=has_key_side, surroundings=previous)
        self.before = tuple(before)

    def features(
        self,
        backbone: nn.Module,
        images: Tensor,
        samples: Samples,
        context: StepContext,
        side: Side,
        view: int,
    ) -> Tensor:
        """(N, 3, H, W) -> streams (S, N, D), each side in groups of its own.

        (N, D) where this side is not related.
        """
        relating, is_related = self.relating, self.rules.relates_queries
        dropout = self.drops_queries
        if side == "key":
            relating = self.slow_relating if self.slow_relating is not None else relating
            is_related, dropout = self.rules.relates_keys, self.drops_keys
        if relating is None or not (is_related and self.is_active(context)):
            self.noted = self.noted if self.is_active(context) else None
            return super().features(backbone, images, samples, context, side, view)
        order = self.order(images, context, side, view)
        relate = partial(relating, dropout=dropout)
        look = partial(self._look_beside, samples=samples, side=side, view=view)
        streams, inside = self._streams_of(relate, look, backbone, images, order)
        noted = Noted(streams.detach(), order, view, samples.image_ids, inside[0][1], inside)
        self._note(side, noted)
        return streams

    def queries(
        self, features: Tensor, samples: Samples, context: StepContext, view: int
    ) -> Tensor:
        """Streams as they are; (N, D) -> (1, N, D)."""
        del samples, context, view
        return features if features.ndim == 3 else features.unsqueeze(0)

    def keys(self, features: Tensor, samples: Samples, context: StepContext, view: int) -> Tensor:
        """Streams as they are; (N, D) -> (1, N, D)."""
        del samples, context, view
        return features if features.ndim == 3 else features.unsqueeze(0)

    def gate(self) -> nn.Parameter | None:
        """The scalar of `residual: gate`."""
        return self.relating.gate if isinstance(self.relating, RelatingInside) else None

    def _attention(self, relating: nn.Module, noted: Noted, to: torch.dtype) -> list[Attention]:
        found: list[Attention] = []
        for number, (values, beside) in enumerate(noted.inside):
            seen = None if beside is None else beside.to(to)
            relating(
                *(values.to(to), noted.order, number),
                dropout=False,
                beside=seen,
                attention=found,
            )
        return found

    def _look_beside(
        self, values: Tensor, place: int, *, samples: Samples, side: Side, view: int
    ) -> Beside | None:
        """Note the values (N, ...) of a place for the next step, and see those of the last."""
        if not isinstance(self.surroundings, PreviousTokens):
            return None
        self.surroundings.observe(values, samples, side, view, place)
        return self.surroundings.beside(values, samples, side, view, place)

    def _streams_of(
        self,
        relate: Callable[..., Tensor],
        look: Callable[[Tensor, int], Beside | None],
        backbone: nn.Module,
        images: Tensor,
        order: Tensor | None,
    ) -> tuple[Tensor, list[tuple[Tensor, Beside | None]]]:
        """The streams, and what stream 1 was before each place, with what it saw beside that."""
        cut = stages(backbone)
        plain = _run(cut[: self.before[0]], images)
        streams = torch.stack([plain, plain])
        ends = [*self.before[1:], len(cut)]
        inside: list[tuple[Tensor, Beside | None]] = []
        for number, (start, end) in enumerate(zip(self.before, ends, strict=True)):
            beside = look(streams[1], number)
            inside.append((streams[1].detach(), beside))
            related = relate(streams[1], order, number, beside=beside)
            streams = torch.stack([streams[0], related.to(streams.dtype)])
            streams = _run_streams(cut[start:end], streams, backbone, self.rules.batch_norm)
        return streams, inside


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

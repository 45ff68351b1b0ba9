"""The previous batch of a process, which the control `foreign` shows to this one.

Shapes: N local batch, g rows per group, W devices; a row is what a relation is given of an image:
features (D,), tokens (L, E) or a grid (C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from linear_eval.system.errors import InputError
from ssl_bf.parts.gathered_keys import own_keys
from ssl_bf.parts.key_queue import NO_IMAGE
from ssl_bf.relations.streams import StreamRules
from ssl_bf.relations.surroundings import Beside, Samples, Side, Surroundings
from ssl_bf.shards.shard import all_gather_rows, num_shards

Shape = tuple[int, ...]


def related_sides(rules: StreamRules, *, has_key_side: bool) -> list[Side]:
    """The sides whose rows are related; where one network makes both, its rows count as queries."""
    sides: list[Side] = ["query"] if rules.relates_queries else []
    has_keys = rules.relates_keys and (has_key_side or not sides)
    return [*sides, "key"] if has_keys else sides


def seen_in_groups(allowed: Tensor, groups: int, *, is_global: bool) -> Tensor:
    """What each row of a group may see of its group and of that of the other batch.

    Args:
        allowed: (N, M) bool, in the order of the rows: which of the other batch, M = N or W * N.
        groups: how many.
        is_global: the other batch is that of all devices.

    Returns:
        (N / g, 1, g, g + m) bool: itself; its group of the other batch but its place there.
    """
    rows, others = allowed.shape[0] // groups, allowed.shape[1] // groups
    number = torch.arange(groups, device=allowed.device)
    of_group = allowed.reshape(groups, rows, groups, others)[number, :, number]
    place = own_keys(rows) if is_global else slice(rows)
    at_its_place = torch.eye(others, dtype=torch.bool, device=allowed.device)[place]
    own = torch.eye(rows, dtype=torch.bool, device=allowed.device).expand(groups, -1, -1)
    return torch.cat([own, of_group & ~at_its_place], dim=2)[:, None]


class PreviousBatch(Surroundings):
    """The rows of the last view of the previous step, not yet related here, for each side.

    Buffers `rows_SIDE` (W * N, ...) of all devices, and `images_SIDE` (W * N,), their image ids. An
    image may end an epoch and begin the next: then its row does not see its own older copy.
    """

    def __init__(self, shape: Shape, sides: list[Side], *, of_all_devices: bool) -> None:
        """Hold nothing yet; each device sees its own rows, or those of all."""
        super().__init__()
        self.shape, self.sides, self.of_all_devices = shape, sides, of_all_devices
        self.noted: dict[Side, tuple[Tensor, Tensor]] = {}
        for side in sides:
            self.register_buffer(f"rows_{side}", torch.zeros(0, *shape))
            self.register_buffer(f"images_{side}", torch.zeros(0, dtype=torch.int64))

    def make_room(self, local_batch: int, image_size: int) -> None:
        """Take the size of a batch of all devices."""
        del image_size
        for side in self.sides:
            rows, images = self._of(side)
            size = local_batch * num_shards()
            self.register_buffer(f"rows_{side}", rows.new_zeros(size, *self.shape))
            self.register_buffer(f"images_{side}", images.new_full((size,), NO_IMAGE))

    def observe(self, features: Tensor, samples: Samples, side: Side, view: int) -> None:
        """Note them for the next step; the last view stays."""
        del view
        if side in self.sides:
            self.noted[side] = features.detach(), samples.image_ids

    def beside(self, features: Tensor, samples: Samples, side: Side, view: int) -> Beside:
        """The previous step's rows (M, ...) of whichever view; no row sees its own image."""
        del view
        rows, images = self._of(side)
        seen_at_once = num_shards() if self.of_all_devices else 1
        if not self.of_all_devices:
            rows, images = rows[own_keys(len(features))], images[own_keys(len(features))]
        assert len(rows) == len(features) * seen_at_once, "no room was made for such a batch"
        seen = (images != NO_IMAGE) & (images != samples.image_ids[:, None])
        # Copies: the buffers move on after the step, and who looks at the step does so later.
        return Beside(rows.to(features.dtype, copy=True), seen, images.clone())

    def after_step(self) -> None:
        """What was this step's batch is the previous one now."""
        for side, (features, image_ids) in self.noted.items():
            rows, images = self._of(side)
            rows.copy_(all_gather_rows(features))
            images.copy_(all_gather_rows(image_ids))
        self.noted.clear()

    def _of(self, side: Side) -> tuple[Tensor, Tensor]:
        return self.get_buffer(f"rows_{side}"), self.get_buffer(f"images_{side}")

    def check_steps(self, steps_per_epoch: int) -> None:
        """Refuse a run whose batches all hold the same images.

        Raises:
            InputError: an epoch is one batch.
        """
        _need_another_batch("name", steps_per_epoch)


class PreviousTokens(Surroundings):
    """What the previous batch was at each place inside the backbone.

    Buffers as those of `PreviousBatch`, place by place. They are noted in steps in which the
    relation acts: in the first of these each image sees itself alone.
    """

    def __init__(
        self,
        shapes: Callable[[int], list[Shape]],
        count: int,
        sides: list[Side],
        *,
        of_all_devices: bool,
    ) -> None:
        """Hold nothing yet.

        Args:
            shapes: image size -> that of a row at each place.
            count: of places.
            sides: that are related.
            of_all_devices: whether a device sees the rows of all.
        """
        super().__init__()
        self.shapes = shapes
        self.places = nn.ModuleList(
            PreviousBatch((0,), sides, of_all_devices=of_all_devices) for _ in range(count)
        )

    def make_room(self, local_batch: int, image_size: int) -> None:
        """Take the size of a batch of all devices."""
        for number, shape in enumerate(self.shapes(image_size)):
            self._at(number).shape = shape
            self._at(number).make_room(local_batch, image_size)

    def observe(
        self, features: Tensor, samples: Samples, side: Side, view: int, place: int = 0
    ) -> None:
        """Note rows (N, ...) of a place."""
        self._at(place).observe(features, samples, side, view)

    def beside(
        self, features: Tensor, samples: Samples, side: Side, view: int, place: int = 0
    ) -> Beside:
        """What the rows (N, ...) of a place see."""
        return self._at(place).beside(features, samples, side, view)

    def after_step(self) -> None:
        """What was this step's batch is the previous one now."""
        for number in range(len(self.places)):
            self._at(number).after_step()

    def check_steps(self, steps_per_epoch: int) -> None:
        """Refuse a run whose batches all hold the same images.

        Raises:
            InputError: an epoch is one batch.
        """
        _need_another_batch("attention", steps_per_epoch)

    def _at(self, number: int) -> PreviousBatch:
        place = self.places[number]
        assert isinstance(place, PreviousBatch)
        return place


def _need_another_batch(key: str, steps_per_epoch: int) -> None:
    if steps_per_epoch < 2:
        raise InputError(
            f"relation.{key}: foreign needs another batch, and an epoch of this run has one; "
            "lower batch_size, add images, or choose another relation"
        )

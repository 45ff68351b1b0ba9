"""Batches of equally many images from each of some groups: classes, or domains.

Shapes: N images of a batch; n groups of m images each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import generator
from ssl_bf.samplers.sampler import Dealt, Pool, Sampler


@dataclass(frozen=True, kw_only=True)
class ClassBalancedConfig:
    """So many images from each of batch_size / images_per_class classes."""

    name: Literal["class_balanced"] = "class_balanced"
    images_per_class: int = 8  # in a batch, of each class that is in it

    def __post_init__(self) -> None:
        """Refuse classes without an image."""
        if self.images_per_class < 1:
            raise ValueError(f"images_per_class: must be >= 1, got {self.images_per_class}")

    def build(self, pool: Pool) -> Balanced:
        """Make the sampler.

        Raises:
            InputError: images without labels, or a batch that is not made of classes.
        """
        unlabelled = int((pool.labels < 0).sum())
        if unlabelled:
            raise InputError(
                f"sampler.name: class_balanced needs labels, {unlabelled} of {pool.size} training "
                "images have none; choose data with a folder per class, or "
                "sampler.name=every_image"
            )
        images, batch = self.images_per_class, pool.batch_size
        classes = len(pool.labels.unique())
        if batch % images:
            raise InputError(
                f"sampler.images_per_class: {images} does not divide batch_size {batch}, expected "
                "whole classes; change one of them"
            )
        if batch // images > classes:
            raise InputError(
                f"batch_size: {batch} with sampler.images_per_class={images} takes "
                f"{batch // images} classes, train has {classes}; set "
                f"batch_size={images * classes} or less, or raise sampler.images_per_class"
            )
        return Balanced(pool, pool.labels, images, images_per_class=images)


@dataclass(frozen=True, kw_only=True)
class DomainBalancedConfig:
    """The same number of images from every domain of train."""

    name: Literal["domain_balanced"] = "domain_balanced"

    def build(self, pool: Pool) -> Balanced:
        """Make the sampler.

        Raises:
            InputError: the data have no domains, or not as many as divide the batch.
        """
        if pool.domains is None:
            raise InputError(
                "sampler.name: domain_balanced needs data with domains, expected "
                "data.name=domains; choose it, or sampler.name=every_image"
            )
        domains = len(pool.domains.unique())
        if pool.batch_size % domains:
            nearest = max(1, round(pool.batch_size / domains)) * domains
            raise InputError(
                f"batch_size: {pool.batch_size} cannot be shared equally by {domains} domains of "
                f"train; set batch_size={nearest}"
            )
        return Balanced(pool, pool.domains, pool.batch_size // domains)


class Balanced(Sampler):
    """n groups of m images in each batch.

    Rounds follow one another through an epoch. A round is a permutation of the groups, dealt n by
    n; the groups that are left over for a short batch are dropped. In each round a group has the
    next m images of a permutation of its own, of which a new one begins where less than m are left.
    All permutations are drawn anew in each epoch. So an image is in a batch once, and in an epoch
    about as often as its group asks for; only a group of less than m images repeats them.

    A batch goes through its groups m times, image by image. So each process has all of the groups,
    as nearly as can be, and BatchNorm of one process cannot tell them apart.

    Differs: published samplers of metric learning end an epoch after one round, and one of them
    (SissiW/DyBGR 819a54f) draws the same order in every epoch.
    """

    def __init__(
        self, pool: Pool, group_of: Tensor, images: int, *, images_per_class: int | None = None
    ) -> None:
        """List the images of each group.

        Args:
            pool: what is chosen from.
            group_of: (M,) int64, any numbers; equal ones are a group.
            images: m, of each group in a batch.
            images_per_class: m where the groups are classes.
        """
        super().__init__(pool)
        _, numbers, sizes = group_of.unique(return_inverse=True, return_counts=True)
        self._rows = numbers.argsort(stable=True).split(sizes.tolist())
        self._images = images
        self._groups = pool.batch_size // images
        self._batches_per_round = len(self._rows) // self._groups
        self.images_per_class = images_per_class

    def deal(self, epoch: int, number: int, places: Tensor) -> Dealt:
        """See `Sampler`."""
        rows, showings = torch.empty_like(places), torch.empty_like(places)
        round_, batch = divmod(number, self._batches_per_round)
        for place, group in enumerate(self._in_batch(epoch, round_, batch)):
            here = places % self._groups == place
            slots = places[here] // self._groups
            order, cycle, first = self._order(epoch, round_, group)
            laps = -(-self._images // len(order))  # more than 1 where images repeat in the batch
            rows[here] = order[(first + slots) % len(order)]
            showings[here] = cycle * laps + (first + slots) // len(order)
        return Dealt(rows, showings)

    def substitutes(self, epoch: int, number: int, place: int) -> Iterator[int]:
        """Images of the same group: those of other rounds, then left over ones, then any."""
        round_, batch = divmod(number, self._batches_per_round)
        slot, place = divmod(place, self._groups)
        group = self._in_batch(epoch, round_, batch)[place]
        order, _, first = self._order(epoch, round_, group)
        used = len(order) // self._images * self._images
        for further in range(self._images, used, self._images):
            yield int(order[(first + slot + further) % used])
        for position in [*range(used, len(order)), *range(used)]:
            yield int(order[position])

    def _in_batch(self, epoch: int, round_: int, batch: int) -> list[int]:
        """The groups of a batch of a round."""
        source = generator(self.pool.seed, "groups", epoch, round_)
        order = torch.randperm(len(self._rows), generator=source)
        chosen: list[int] = order[batch * self._groups : (batch + 1) * self._groups].tolist()
        return chosen

    def _order(self, epoch: int, round_: int, group: int) -> tuple[Tensor, int, int]:
        """Images of a group in its present permutation, its number, and the first of the round."""
        rows = self._rows[group]
        cycle, draw = divmod(round_, max(1, len(rows) // self._images))
        source = generator(self.pool.seed, "images of a group", epoch, group, cycle)
        order = torch.randperm(len(rows), generator=source)
        return rows[order], cycle, draw * self._images

"""Which images each batch shows: the contract of a sampler, and the usual one.

Shapes: M images to train on, B images of a batch on all processes together, N of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ssl_bf.keyed_random import key, shuffled


@dataclass(frozen=True, eq=False)
class Pool:
    """What a sampler chooses from.

    Attributes:
        seed: of the run.
        batch_size: B.
        labels: (M,) int64, -1 where there is no label.
        domains: (M,) int64, or None where the images come from no named domains.
    """

    seed: int
    batch_size: int
    labels: Tensor
    domains: Tensor | None = None

    @property
    def size(self) -> int:
        """M."""
        return len(self.labels)


class Dealt(NamedTuple):
    """Images that a batch shows.

    Attributes:
        rows: (N,) int64 in [0, M).
        showings: (N,) int64 >= 0; no two showings of an image in an epoch have the same number,
            and so none has the same views.
    """

    rows: Tensor
    showings: Tensor


class Sampler(ABC):
    """Deals the images of any batch, as a pure function of (seed, epoch, batch, place).

    So neither the number of processes nor a restart changes what a batch shows. An epoch has
    `steps_per_epoch` batches: as many as hold M images or less, whatever the sampler.
    """

    images_per_class: int | None = None  # in every batch; None: it is left to chance

    def __init__(self, pool: Pool) -> None:
        """Take over what is chosen from; it holds at least one batch."""
        self.pool = pool
        self.steps_per_epoch = pool.size // pool.batch_size

    @abstractmethod
    def deal(self, epoch: int, number: int, places: Tensor) -> Dealt:
        """The images at some places of a batch.

        Args:
            epoch: from 0.
            number: of the batch in the epoch, from 0.
            places: (N,) int64 in [0, B).
        """

    @abstractmethod
    def substitutes(self, epoch: int, number: int, place: int) -> Iterator[int]:
        """Images to try in turn where the one at this place cannot be decoded."""


@dataclass(frozen=True, kw_only=True)
class EveryImageConfig:
    """Every image once per epoch, in a random order."""

    name: Literal["every_image"] = "every_image"

    def build(self, pool: Pool) -> EveryImage:
        """Make the sampler."""
        return EveryImage(pool)


class EveryImage(Sampler):
    """A permutation of the images per epoch; the last partial batch is dropped."""

    def deal(self, epoch: int, number: int, places: Tensor) -> Dealt:
        """See `Sampler`."""
        rows = self._in_order(epoch, number * self.pool.batch_size + places)
        return Dealt(rows, torch.zeros_like(rows))

    def substitutes(self, epoch: int, number: int, place: int) -> Iterator[int]:
        """The image a whole batch further on, then two, ...: never one of the same batch."""
        size = self.pool.batch_size
        for batches in range(1, self.steps_per_epoch):
            further = ((number + batches) * size + place) % self.pool.size
            yield int(self._in_order(epoch, torch.tensor([further])))

    def _in_order(self, epoch: int, positions: Tensor) -> Tensor:
        return shuffled(key(self.pool.seed, "order", epoch), positions, self.pool.size)

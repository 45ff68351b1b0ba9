"""What a relation sees beside the rows of its batch: an earlier batch, a memory, a teacher.

And what is noted of a step, to look at it later.

Shapes: N local batch, m rows beside it, D width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

Side = Literal["query", "key"]


class Samples(NamedTuple):
    """What the rows of a batch are.

    Attributes:
        image_ids: (N,) int64, the index of each image in the split.
        labels: (N,) int64, or None unless the method needs them.
    """

    image_ids: Tensor
    labels: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "Samples":
        """The same with every tensor changed."""
        labels = None if self.labels is None else change(self.labels)
        return Samples(change(self.image_ids), labels)


class Beside(NamedTuple):
    """Rows that are looked at and never trained through.

    Attributes:
        rows: (M, D), or (N, m, D) where each row of the batch has its own; inside a backbone
            (M, ...) as its values are.
        seen: which of them there are, bool: (M,); (N, M) or (N, m) where rows differ in that.
        images: (M,) or (N, m) int64, whose they are; None: row i is that of image i of this batch.
    """

    rows: Tensor
    seen: Tensor
    images: Tensor | None = None

    def to(self, dtype: torch.dtype) -> "Beside":
        """The same with rows of that type; those that are numbers of rows stay."""
        rows = self.rows.to(dtype) if self.rows.is_floating_point() else self.rows
        return self._replace(rows=rows)


@dataclass(frozen=True, eq=False)
class Noted:
    """What was related last, without gradient: for logs and pictures.

    Attributes:
        streams: (2, N, D).
        order: (N,) permutation into groups, or None.
        view: its number.
        images: (N,) int64, of the rows; None where the method has not said so.
        beside: what was seen beside the batch, if anything.
        inside: of a relation inside the backbone: what it was given at each place, (N, ...), and
            what it saw beside that, if anything.
    """

    streams: Tensor
    order: Tensor | None
    view: int
    images: Tensor | None = None
    beside: Beside | None = None
    inside: list[tuple[Tensor, Beside | None]] = field(default_factory=list)


class Surroundings(nn.Module, ABC):
    """Notes plain features while a step is computed, changes its state only after it.

    Its state consists of buffers that are equal on every process, so that a checkpoint holds it.
    """

    needs_slow_queries = False  # what the key side would make of the views that are queried
    needs_labels = False

    def make_room(self, local_batch: int, image_size: int) -> None:
        """Take the size that the state has with batches (N, 3, S, S); before the first step."""
        del local_batch, image_size

    @abstractmethod
    def observe(self, features: Tensor, samples: Samples, side: Side, view: int) -> None:
        """Note the plain features (N, D) of one view, in training."""

    @abstractmethod
    def beside(self, features: Tensor, samples: Samples, side: Side, view: int) -> Beside:
        """What the rows (N, D) of a view see; features of the same step at most of this view."""

    @abstractmethod
    def after_step(self) -> None:
        """Move on to what was noted in this step."""

    def check_batch(self, local_batch: int, num_devices: int) -> None:
        """Refuse a batch that it cannot work with.

        Raises:
            InputError: naming the key and what would do.
        """
        del local_batch, num_devices

    def check_steps(self, steps_per_epoch: int) -> None:
        """Refuse a run that is too short for it.

        Raises:
            InputError: naming what would do.
        """
        del steps_per_epoch

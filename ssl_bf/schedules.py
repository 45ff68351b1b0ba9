"""Learning rate and momentum as pure functions of how far a run is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from linear_eval.system.errors import InputError


def warmup_cosine(epoch: float, *, peak: float, warmup_epochs: float, epochs: float) -> float:
    """Linear rise from 0 to `peak` in `warmup_epochs`, then half a cosine down to 0 at `epochs`.

    Args:
        epoch: fractional epoch in [0, epochs].
        peak: value at the end of the warm-up.
        warmup_epochs: in [0, epochs).
        epochs: length of the whole schedule.

    Source: Chen et al. 2021 (arXiv 2104.02057). It is the value at the start of a step: the first
        step of a warm-up has learning rate 0, and the last step of a run a small positive one.
    """
    if epoch < warmup_epochs:
        return peak * epoch / warmup_epochs
    progress = (epoch - warmup_epochs) / (epochs - warmup_epochs)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))


class Elapsed(NamedTuple):
    """How far a run is: `epoch` in [0, epochs], with fractions, of `epochs`.

    Two numbers, because published schedules multiply before they divide. As a scalar tensor in
    float64, `epoch` is read on its device: a CUDA graph then reads it at every replay.
    """

    epoch: float | Tensor
    epochs: int


@dataclass(frozen=True)
class Momentum:
    """Of the slow copies: how much of itself one keeps when it moves.

    Attributes:
        start: at the start of the run, in [0, 1].
        schedule: `constant`, or `cosine`: along half a cosine to 1 at the end.

    Source: Grill et al. 2020 (arXiv 2006.07733, section 3.2), as used by MoCo-v3.
    """

    start: float
    schedule: Literal["constant", "cosine"] = "constant"

    def at(self, progress: Elapsed) -> float | Tensor:
        """In [start, 1]; a tensor where `progress` has one and the momentum changes."""
        if self.schedule == "constant":
            return self.start
        angle = math.pi * progress.epoch / progress.epochs
        cosine = angle.cos() if isinstance(angle, Tensor) else math.cos(angle)
        return 1.0 - (1.0 - self.start) * 0.5 * (1.0 + cosine)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long a run is, and the learning rate at each of its steps.

    Attributes:
        steps_per_epoch: optimizer updates in one pass over the data, >= 1.
        epochs: passes over the data, >= 1.
        warmup_epochs: length of the linear warm-up, in [0, epochs).
        peak_learning_rate: after scaling to the batch size; what `constant` groups keep throughout.

    Raises:
        InputError: the warm-up is as long as the run or longer.
    """

    steps_per_epoch: int
    epochs: int
    warmup_epochs: float
    peak_learning_rate: float

    def __post_init__(self) -> None:
        assert self.steps_per_epoch >= 1, f"steps_per_epoch is {self.steps_per_epoch}"
        assert self.epochs >= 1, f"epochs is {self.epochs}"
        if not 0 <= self.warmup_epochs < self.epochs:
            raise InputError(
                f"optimizer.warmup_epochs: is {self.warmup_epochs:g}, expected at least 0 and less "
                f"than the {self.epochs} epochs of the run; lower it (0 means no warm-up) or "
                "raise epochs"
            )

    @property
    def total_steps(self) -> int:
        """Optimizer updates of the whole run."""
        return self.steps_per_epoch * self.epochs

    def learning_rate(self, step: int) -> float:
        """Learning rate of update number `step` (from 0 to total_steps - 1)."""
        return warmup_cosine(
            step / self.steps_per_epoch,
            peak=self.peak_learning_rate,
            warmup_epochs=self.warmup_epochs,
            epochs=self.epochs,
        )

    def progress(self, step: int) -> Elapsed:
        """How far the run is after so many updates (from 0 to total_steps)."""
        return Elapsed(step / self.steps_per_epoch, self.epochs)

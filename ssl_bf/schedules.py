"""Learning rate and momentum as pure functions of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

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


def cosine_momentum(epoch: float, *, start: float, epochs: float) -> float:
    """Momentum of the slow copies, from `start` at epoch 0 along half a cosine to 1 at `epochs`.

    Source: Grill et al. 2020 (arXiv 2006.07733, section 3.2), as used by MoCo-v3.
    """
    return 1.0 - (1.0 - start) * 0.5 * (1.0 + math.cos(math.pi * epoch / epochs))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long a run is, and the learning rate and momentum at each of its steps.

    Attributes:
        steps_per_epoch: optimizer updates in one pass over the data, >= 1.
        epochs: passes over the data, >= 1.
        warmup_epochs: length of the linear warm-up, in [0, epochs).
        peak_learning_rate: after scaling to the batch size; what `constant` groups keep throughout.
        start_momentum: momentum of the slow copies at step 0, in [0, 1].
        momentum_schedule: `constant`, or `cosine` from `start_momentum` to 1.

    Raises:
        InputError: the warm-up is as long as the run or longer.
    """

    steps_per_epoch: int
    epochs: int
    warmup_epochs: float
    peak_learning_rate: float
    start_momentum: float = 0.99
    momentum_schedule: Literal["constant", "cosine"] = "constant"

    def __post_init__(self) -> None:
        assert self.steps_per_epoch >= 1, f"steps_per_epoch is {self.steps_per_epoch}"
        assert self.epochs >= 1, f"epochs is {self.epochs}"
        assert 0.0 <= self.start_momentum <= 1.0, f"start_momentum is {self.start_momentum}"
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

    def momentum(self, step: int) -> float:
        """Momentum of the slow copies at `step` (from 0 to total_steps)."""
        if self.momentum_schedule == "constant":
            return self.start_momentum
        epoch = step / self.steps_per_epoch
        return cosine_momentum(epoch, start=self.start_momentum, epochs=self.epochs)

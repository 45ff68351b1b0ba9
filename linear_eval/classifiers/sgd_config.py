"""How linear classifiers descend, and what differs between those fitted together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

Normalisation = Literal["standardise", "batch_norm", "none"]
"""By the statistics of all rows, by BatchNorm without affine parameters, or not at all."""


class Hyperparameters(NamedTuple):
    """What differs between the classifiers that are fitted together.

    Attributes:
        learning_rate: > 0, per 256 images: training starts at rate * batch_size / 256.
        weight_decay: >= 0, of the weights but not of the bias.
    """

    learning_rate: float
    weight_decay: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ProbeSgdConfig:
    """SGD on features that were computed before.

    Attributes:
        epochs: passes over the features.
        batch_size: images of a step at most; an epoch is cut into steps of equal size.
        momentum: in [0, 1).
        milestones: epochs at which the rate falls by a factor of ten; none: it falls to 0 on a
            cosine, step by step.
        normalisation: of the features, before the linear layer.
        initial_std: of the initial weights, >= 0; the bias starts at 0.
        trust: > 0 scales every weight's (and bias's) gradient to this share of its own norm (LARS);
            None: plain SGD.
        seed: of the order of images and of the initial weights.
    """

    epochs: int = 100
    batch_size: int = 256
    momentum: float = 0.9
    milestones: tuple[int, ...] = ()
    normalisation: Normalisation = "standardise"
    initial_std: float = 0.0
    trust: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be >= 1, got {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum: must be in [0, 1), got {self.momentum}")
        if list(self.milestones) != sorted({m for m in self.milestones if m >= 1}):
            raise ValueError(f"milestones: must be rising epochs, got {list(self.milestones)}")
        if not 0 <= self.initial_std < math.inf:
            raise ValueError(f"initial_std: must be >= 0, got {self.initial_std}")
        if self.trust is not None and not 0 < self.trust < math.inf:
            raise ValueError(f"trust: must be > 0, got {self.trust}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed: must be between 0 and 2**63 - 1, got {self.seed}")

    def rate_factor(self, done: float) -> float:
        """Factor on the learning rate after `done` epochs."""
        if self.milestones:
            return float(0.1 ** sum(done >= milestone for milestone in self.milestones))
        return (1 + math.cos(math.pi * done / self.epochs)) / 2

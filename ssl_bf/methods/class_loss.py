"""What the numbers of training images per class change: prior, margins and weights of a loss.

Shapes: A streams, N local batch, D feature width, C classes.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_bf.losses.class_logits import (
    class_cross_entropy,
    effective_number_weights,
    ldam_margins,
    log_prior,
    with_margins,
)
from ssl_bf.losses.unit_length import unit_length

SCALE = 30.0  # of LDAM's cosines, as published
BETA = 0.9999  # of the effective number, as published with LDAM


class ClassLossSettings(Protocol):
    """Keys that it follows."""

    @property
    def prior(self) -> float:
        """Tau, >= 0."""

    @property
    def label_smoothing(self) -> float:
        """In [0, 1)."""

    @property
    def margin(self) -> float:
        """Of the rarest class; 0: logits are no cosines."""

    @property
    def margin_scale(self) -> float | None:
        """Of the cosines; None: `SCALE`."""

    @property
    def reweight_from(self) -> float:
        """Share of training after which classes have weights, in [0, 1]; 1: never."""


class ClassLoss(nn.Module):
    """Logits of a linear layer, and their loss."""

    prior: Tensor  # (C,)
    margins: Tensor  # (C,)
    weights: Tensor  # (C,)

    def __init__(self, settings: ClassLossSettings, counts: Sequence[int]) -> None:
        """Compute all from `counts`, the images of each class, > 0."""
        super().__init__()
        self.settings = settings
        self.has_margins = settings.margin > 0
        self.scale = SCALE if settings.margin_scale is None else settings.margin_scale
        numbers = torch.tensor(counts)
        # they belong to the images, not to what is trained: no checkpoint holds them
        for name, values in (
            ("prior", log_prior(numbers, settings.prior)),
            ("margins", ldam_margins(numbers, settings.margin)),
            ("weights", effective_number_weights(numbers, BETA)),
        ):
            self.register_buffer(name, values.float(), persistent=False)

    def logits(self, features: Tensor, layer: nn.Linear) -> Tensor:
        """(A, N, D) -> (A, N, C), without prior and margins; with margins scaled cosines."""
        if not self.has_margins:
            return layer(features)  # type: ignore[no-any-return]
        with torch.autocast(features.device.type, enabled=False):
            return self.scale * functional.linear(unit_length(features), unit_length(layer.weight))

    def forward(self, logits: Tensor, labels: Tensor, *, elapsed: float) -> Tensor:
        """(A, N, C) and (N,) -> (A,); `elapsed` is the share of the run that is done."""
        if self.has_margins:
            logits = with_margins(logits / self.scale, labels, self.margins, self.scale)
        return class_cross_entropy(
            logits,
            labels,
            prior=self.prior if self.settings.prior > 0 else None,
            label_smoothing=self.settings.label_smoothing,
            weights=self.weights if elapsed >= self.settings.reweight_from else None,
        )

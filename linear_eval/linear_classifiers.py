"""Linear classifiers of fixed features, by SGD at many learning rates as one problem.

Shapes: M images, D feature width, C classes, L learning rates, B images of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

MOMENTUM = 0.9
_LOGITS_AT_ONCE = 2**23  # 32 MiB of float32


@dataclass(frozen=True, kw_only=True)
class SgdConfig:
    """SGD on features that lie in memory.

    Attributes:
        epochs: passes over the features.
        batch_size: images of a step at most; an epoch is cut into steps of equal size.
        weight_decay: >= 0, of the weights but not of the bias.
        seed: of the order of images.
    """

    epochs: int = 100
    batch_size: int = 256
    weight_decay: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be >= 1, got {getattr(self, name)}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay: must be >= 0, got {self.weight_decay}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed: must be between 0 and 2**63 - 1, got {self.seed}")


@dataclass(frozen=True, eq=False)
class LinearClassifiers:
    """L linear classifiers of the same standardised features.

    Attributes:
        mean: (D,), subtracted from a feature.
        scale: (D,), then multiplied onto it.
        weight: (C, L, D); classes first, so that softmax runs over long contiguous rows.
        bias: (C, L).
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def standardise(self, features: Tensor) -> Tensor:
        """Features (M, D) on any device -> (M, D) float32 where the probes are."""
        return (features.to(self.mean.device).float() - self.mean) * self.scale

    def logits(self, standardised: Tensor) -> Tensor:
        """Standardised features (M, D) -> (C, L, M)."""
        bias, weight = self.bias.flatten()[:, None], self.weight.flatten(0, 1)
        return torch.addmm(bias, weight, standardised.T).view(*self.bias.shape, -1)

    def in_chunks(self, features: Tensor) -> Iterator[Tensor]:
        """Logits (C, L, m) of features (M, D), m rows at a time."""
        at_once = max(1, _LOGITS_AT_ONCE // self.bias.numel())
        for part in torch.split(features, at_once):
            yield self.logits(self.standardise(part))


def fit_linear_classifiers(
    features: Tensor,
    labels: Tensor,
    config: SgdConfig,
    *,
    rates: tuple[float, ...],
    num_classes: int,
    device: torch.device | str = "cpu",
) -> LinearClassifiers:
    """Fit one classifier per learning rate, all on the same batches, from zero weights.

    Features are standardised by their own statistics, so that one grid of rates suits features of
    any scale. As in BatchNorm, a little is added to each variance, here a share of the mean one.

    Args:
        features: (M, D), any floating type.
        labels: (M,) int64 in [0, C).
        config: how to descend.
        rates: > 0, per 256 images: training starts at rate * batch_size / 256, with the configured
            batch size, and falls to 0 on a cosine. One rate's result does not depend on the others.
        num_classes: C.
        device: where to compute; the order of images is drawn on the CPU for every device.

    Source: He et al. 2022, appendix A.1 (arXiv 2111.06377), BatchNorm without affine parameters
    before the probe; He et al. 2020 (arXiv 1911.05722), momentum 0.9 and no weight decay.
    Differs: the statistics are those of all rows, not of a batch; weights start at zero.
    """
    variance, mean = torch.var_mean(features.to(device).float(), dim=0, correction=0)
    classifiers = LinearClassifiers(
        mean=mean,
        scale=(variance + 1e-5 * variance.mean()).rsqrt().nan_to_num(posinf=0.0),
        weight=torch.zeros(num_classes, len(rates), len(mean), device=mean.device),
        bias=torch.zeros(num_classes, len(rates), device=mean.device),
    )
    peak = torch.tensor(rates, device=mean.device) * (config.batch_size / 256)
    _descend(classifiers, classifiers.standardise(features), labels.to(mean.device), peak, config)
    return classifiers


def _descend(
    classifiers: LinearClassifiers,
    features: Tensor,
    labels: Tensor,
    peak: Tensor,
    config: SgdConfig,
) -> None:
    """Run SGD in place: two matrix products a step for all rates, the gradient written out."""
    weight, bias = classifiers.weight.flatten(0, 1), classifiers.bias.flatten()[:, None]  # views
    velocity, bias_velocity = torch.zeros_like(weight), torch.zeros_like(bias)
    rate = peak.repeat(len(classifiers.bias))[:, None]  # (C*L, 1)
    minus_one = torch.tensor(-1.0, device=bias.device).expand(1, len(peak), len(labels))
    order = torch.Generator().manual_seed(config.seed)
    num_batches = math.ceil(len(labels) / config.batch_size)
    for epoch in range(config.epochs):
        rows = torch.randperm(len(labels), generator=order).to(bias.device)
        for number, batch in enumerate(torch.tensor_split(rows, num_batches)):
            x = features.index_select(0, batch)
            # gradient of the cross-entropy by the logits: the probabilities, less 1 at the label
            gradient = classifiers.logits(x).softmax(dim=0)
            label = labels[batch].expand(1, len(peak), -1)
            gradient = gradient.scatter_add_(0, label, minus_one).flatten(0, 1)  # (C*L, B)
            velocity.addmm_(gradient, x, beta=MOMENTUM, alpha=1 / len(x))
            if config.weight_decay:
                velocity.add_(weight, alpha=config.weight_decay)
            bias_velocity.mul_(MOMENTUM).add_(gradient.mean(dim=1, keepdim=True))
            done = (epoch + number / num_batches) / config.epochs
            step = -(1 + math.cos(math.pi * done)) / 2
            weight.addcmul_(velocity, rate, value=step)
            bias.addcmul_(bias_velocity, rate, value=step)

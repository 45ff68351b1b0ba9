"""Linear classifiers of fixed features, by SGD with many hyper-parameters as one problem.

Shapes: M images, D feature width, C classes, L hyper-parameters, B images of a batch, P passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from linear_eval.classifiers.sgd_config import Hyperparameters, ProbeSgdConfig
from linear_eval.classifiers.training_rows import TrainingRows
from linear_eval.system.serial_threads import serial_threads_alone

if TYPE_CHECKING:
    from torch import Tensor

_LOGITS_AT_ONCE = 2**23  # 32 MiB of float32
_RUNNING = 0.1  # weight of a batch in BatchNorm's running statistics, as in torch
_BATCH_NORM_EPSILON = 1e-5


@dataclass(frozen=True, eq=False)
class LinearClassifiers:
    """L linear classifiers of the same normalised features.

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

    def only(self, number: int) -> LinearClassifiers:
        """One of them, as L = 1."""
        weight, bias = self.weight[:, number : number + 1], self.bias[:, number : number + 1]
        return LinearClassifiers(self.mean, self.scale, weight.contiguous(), bias.contiguous())

    def normalise(self, features: Tensor) -> Tensor:
        """Features (M, D) on any device -> (M, D) float32 where the probes are."""
        return (features.to(self.mean.device).float() - self.mean) * self.scale

    def logits(self, normalised: Tensor) -> Tensor:
        """Normalised features (M, D) -> (C, L, M)."""
        bias, weight = self.bias.flatten()[:, None], self.weight.flatten(0, 1)
        return torch.addmm(bias, weight, normalised.T).view(*self.bias.shape, -1)

    def in_chunks(self, features: Tensor) -> Iterator[Tensor]:
        """Logits (C, L, m) of features (M, D), m rows at a time."""
        at_once = max(1, _LOGITS_AT_ONCE // self.bias.numel())
        for part in torch.split(features, at_once):
            yield self.logits(self.normalise(part))


def fit_linear_classifiers(
    rows: TrainingRows,
    labels: Tensor,
    config: ProbeSgdConfig,
    *,
    problems: Sequence[Hyperparameters],
    num_classes: int,
) -> LinearClassifiers:
    """Fit one classifier per problem, all on the same batches.

    With `standardise`, one grid of rates suits features of any scale; a little is added to each
    variance as in BatchNorm, here a share of the mean one.

    Args:
        rows: M rows in one pass or in several augmented ones, of which epoch e sees number e mod P.
            They say where to compute, and hand out normalised rows from here on.
        labels: (M,) int64 in [0, C).
        config: how to descend.
        problems: one problem's result does not depend on the others.
        num_classes: C.

    Images are ordered and weights drawn on the CPU for every device. There, threads share the
    problems.

    Source: He et al. 2022, appendix A.1 (arXiv 2111.06377), BatchNorm without affine parameters
    before the probe; He et al. 2020 (arXiv 1911.05722), momentum 0.9 and no weight decay.
    Differs: with `standardise`, the statistics are those of all rows, not of a batch.
    """
    device = rows.device
    mean, scale = torch.zeros(rows.width, device=device), torch.ones(rows.width, device=device)
    if config.normalisation == "standardise":
        variance, mean = rows.var_mean()
        scale = (variance + 1e-5 * variance.mean()).rsqrt().nan_to_num(posinf=0.0)
    rows.normalise(mean, scale)
    labels = labels.to(device)
    generator = torch.Generator().manual_seed(config.seed)
    drawn = torch.randn(num_classes, 1, rows.width, generator=generator) * config.initial_std

    def descend(some: Sequence[Hyperparameters]) -> LinearClassifiers:
        classifiers = LinearClassifiers(
            mean=mean,
            scale=scale,
            weight=drawn.to(device).repeat(1, len(some), 1),
            bias=torch.zeros(num_classes, len(some), device=device),
        )
        return _descend(rows, labels, config, _Descent(classifiers, some, config))

    threads = min(len(problems), torch.get_num_threads()) if device.type == "cpu" else 1
    if threads == 1:
        return descend(problems)
    # A step is too short to be shared by threads: each descends with its own part of the problems.
    parts = [problems[number::threads] for number in range(threads)]
    with serial_threads_alone(threads) as pool:
        fitted = list(pool.map(descend, parts))
    result = LinearClassifiers(
        fitted[0].mean,
        fitted[0].scale,
        weight=drawn.repeat(1, len(problems), 1),
        bias=torch.zeros(num_classes, len(problems)),
    )
    for number, part in enumerate(fitted):
        result.weight[:, number::threads] = part.weight
        result.bias[:, number::threads] = part.bias
    return result


def _descend(
    rows: TrainingRows, labels: Tensor, config: ProbeSgdConfig, descent: _Descent
) -> LinearClassifiers:
    order = torch.Generator().manual_seed(config.seed)
    num_batches = math.ceil(len(labels) / config.batch_size)
    for epoch in range(config.epochs):
        order_of_images = torch.randperm(len(labels), generator=order).to(rows.device)
        for number, batch in enumerate(torch.tensor_split(order_of_images, num_batches)):
            done = epoch + number / num_batches
            descent.step(rows.take(epoch, batch), labels[batch], config.rate_factor(done))
    return descent.finished()


class _Descent:
    """SGD in place: two matrix products a step for all problems, the gradient written out."""

    def __init__(
        self,
        classifiers: LinearClassifiers,
        problems: Sequence[Hyperparameters],
        config: ProbeSgdConfig,
    ) -> None:
        self.classifiers = classifiers
        self.config = config
        self.weight = classifiers.weight.flatten(0, 1)  # (C*L, D), a view
        self.bias = classifiers.bias.flatten()[:, None]  # (C*L, 1), a view
        self.velocity, self.bias_velocity = torch.zeros_like(self.weight), self.bias.clone()
        peak = [problem.learning_rate * config.batch_size / 256 for problem in problems]
        decay = [problem.weight_decay for problem in problems]
        self.rate = self._per_row(torch.tensor(peak))
        self.decay = self._per_row(torch.tensor(decay)) if any(decay) else None
        self.running_mean = torch.zeros_like(classifiers.mean)
        self.running_variance = torch.ones_like(classifiers.mean)

    def step(self, x: Tensor, labels: Tensor, factor: float) -> None:
        """One step on normalised features (B, D) with labels (B,)."""
        if self.config.normalisation == "batch_norm":
            x = self._batch_norm(x)
        # gradient of the cross-entropy by the logits: the probabilities, less 1 at the label
        gradient = self.classifiers.logits(x).softmax(dim=0)  # (C, L, B)
        label = labels.expand(1, gradient.shape[1], -1)
        gradient.scatter_add_(0, label, torch.full_like(label, -1, dtype=gradient.dtype))
        gradient = gradient.flatten(0, 1)  # (C*L, B)
        momentum = self.config.momentum
        self.bias_velocity.mul_(momentum)
        bias_gradient = gradient.mean(dim=1, keepdim=True)
        if self.config.trust is None:
            self.velocity.addmm_(gradient, x, beta=momentum, alpha=1 / len(x))
            if self.decay is not None:
                self.velocity.addcmul_(self.decay, self.weight)
            self.bias_velocity.add_(bias_gradient)
        else:
            self.velocity.mul_(momentum).add_(self._trusted(gradient @ x / len(x), self.weight))
            self.bias_velocity.add_(self._trusted(bias_gradient, self.bias, decayed=False))
        self.weight.addcmul_(self.velocity, self.rate, value=-factor)
        self.bias.addcmul_(self.bias_velocity, self.rate, value=-factor)

    def finished(self) -> LinearClassifiers:
        """The classifiers, with BatchNorm's running statistics where it was used."""
        if self.config.normalisation != "batch_norm":
            return self.classifiers
        scale = (self.running_variance + _BATCH_NORM_EPSILON).rsqrt()
        return LinearClassifiers(
            self.running_mean, scale, self.classifiers.weight, self.classifiers.bias
        )

    def _batch_norm(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=0, correction=0)
        unbiased = variance * (len(x) / max(1, len(x) - 1))
        self.running_mean.lerp_(mean, _RUNNING)
        self.running_variance.lerp_(unbiased, _RUNNING)
        return (x - mean) * (variance + _BATCH_NORM_EPSILON).rsqrt()

    def _trusted(self, gradient: Tensor, parameter: Tensor, *, decayed: bool = True) -> Tensor:
        """LARS without clipping: a parameter or gradient of norm 0 keeps its plain gradient."""
        size, slope = self._norm(parameter), self._norm(gradient)
        assert self.config.trust is not None
        sum_of_norms = slope + 1e-8
        if decayed and self.decay is not None:
            gradient = gradient + self.decay * parameter
            sum_of_norms = sum_of_norms + self.decay * size
        adapted = self.config.trust * size / sum_of_norms
        return gradient * torch.where((size > 0) & (slope > 0), adapted, 1.0)

    def _norm(self, rows: Tensor) -> Tensor:
        """Norm over classes and features of each problem's part of rows (C*L, n): (C*L, 1)."""
        by_problem = rows.view(*self.classifiers.bias.shape, -1)
        norm = torch.linalg.vector_norm(by_problem, dim=(0, 2))
        return self._per_row(norm)

    def _per_row(self, values: Tensor) -> Tensor:
        """One value per problem (L,) as one per row (C*L, 1)."""
        return values.to(self.bias.device).repeat(len(self.classifiers.bias))[:, None]

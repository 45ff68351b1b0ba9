"""What BatchNorm normalises over: a shard's rows, those of all shards, or groups of rows.

torch's SyncBatchNorm refuses the CPU; this one runs anywhere and equals one shard with the whole
batch. `groups:G` gives every G-th part of the batch its own statistics, as G devices would.
`frozen` keeps those of an earlier training.
"""

from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_bf.layers.all_reduce import all_reduce_sum
from ssl_bf.losses.unit_length import full_precision
from ssl_bf.shards.shard import num_shards


class _StatisticsOverBatch(_BatchNorm):
    """BatchNorm whose running statistics are kept here instead of by the framework."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's name
        assert input.dim() >= 2, input.shape

    @torch.no_grad()
    def _update_running(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        if not self.track_running_stats:
            return
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None, "cumulative averages are for calibration, not training"
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(unbiased_variance.to(self.running_var.dtype), self.momentum)


class SynchronisedBatchNorm(_StatisticsOverBatch):
    """Statistics over the rows of all devices, with their gradient; (N, C, ...) -> (N, C, ...)."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Normalise over W * N rows in training; every device must hold the same N."""
        if not self.training or num_shards() == 1:
            return super().forward(input)
        axes = [axis for axis in range(input.dim()) if axis != 1]
        x = full_precision(input)
        count = x.numel() // x.shape[1] * num_shards()
        shape = [1, -1] + [1] * (x.dim() - 2)
        mean = all_reduce_sum(x.sum(dim=axes)) / count
        # Two passes: E[x^2] - E[x]^2 would lose the digits when the mean is large.
        variance = all_reduce_sum((x - mean.view(shape)).square().sum(dim=axes)) / count
        self._update_running(mean, variance * (count / (count - 1)))
        return self._normalise(x, mean.view(shape), variance.view(shape)).to(input.dtype)

    def _normalise(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """(x - mean) / sqrt(variance + eps) with affine; statistics broadcast against x."""
        out = (x - mean) * torch.rsqrt(variance + self.eps)
        if self.affine:
            shape = [1, -1] + [1] * (x.dim() - 2)
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out


class GroupedBatchNorm(_StatisticsOverBatch):
    """Statistics per contiguous group of N / G rows; (N, C, ...) -> (N, C, ...)."""

    groups: int = 1

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Normalise each group by itself in training; running statistics average the groups."""
        if not self.training:
            return super().forward(input)
        if len(input) % self.groups:
            raise ValueError(
                f"method.batch_norm: {len(input)} rows do not divide into groups:{self.groups}"
            )
        # The framework's kernel, group by group; with momentum 1 it leaves a group's mean and
        # unbiased variance where it usually keeps the running ones.
        precision = torch.promote_types(input.dtype, torch.float32)
        means, variances = input.new_zeros(2, self.groups, self.num_features, dtype=precision)
        rows = [
            F.batch_norm(group, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
            for group, mean, variance in zip(
                input.chunk(self.groups), means, variances, strict=True
            )
        ]
        self._update_running(means.mean(0), variances.mean(0))
        return torch.cat(rows)


class FrozenBatchNorm(_StatisticsOverBatch):
    """Running statistics in training too, which leaves them as they are; affine values train."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Normalise every row by the running statistics; (N, C, ...) -> (N, C, ...)."""
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )

    @property
    def is_untrained(self) -> bool:
        """Whether no training has moved the running statistics."""
        assert self.running_mean is not None
        assert self.running_var is not None
        return bool((self.running_mean == 0).all() and (self.running_var == 1).all())


def set_batch_norm_mode(module: nn.Module, mode: str) -> None:
    """Replace every BatchNorm inside `module` so that it follows `mode`; names and values stay.

    Args:
        module: changed in place; must not be a BatchNorm itself.
        mode: `local` (nothing changes), `synchronised`, `groups:G`, or `frozen`.
    """
    if mode == "local":
        return
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            setattr(module, name, _converted(child, mode))
        else:
            set_batch_norm_mode(child, mode)


def freeze_batch_norm(module: nn.Module, weights: Container[str]) -> None:
    """Mode `frozen` for the BatchNorms whose weight is named; other modes leave these alone.

    Args:
        module: changed in place; must not be a BatchNorm itself.
        weights: names of parameters, as `module` names them.
    """
    for name, norm in list(module.named_modules()):
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and f"{name}.weight" in weights:
            owner, _, own = name.rpartition(".")
            setattr(module.get_submodule(owner), own, _converted(norm, "frozen"))


def notes_on_frozen(module: nn.Module) -> list[str]:
    """What a user should know where frozen statistics come from no training."""
    norms = [each for each in module.modules() if isinstance(each, _BatchNorm)]
    if not norms or not all(isinstance(n, FrozenBatchNorm) and n.is_untrained for n in norms):
        return []
    return [
        "warning: method.batch_norm=frozen keeps the running statistics of a backbone that was "
        "never trained (mean 0, variance 1); set backbone.init=FILE, or method.batch_norm=local"
    ]


def _converted(norm: _BatchNorm, mode: str) -> _BatchNorm:
    kinds = {"synchronised": SynchronisedBatchNorm, "frozen": FrozenBatchNorm}
    kind = kinds.get(mode, GroupedBatchNorm)
    new = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    if isinstance(new, GroupedBatchNorm):
        new.groups = num_groups(mode)
    new.weight, new.bias = norm.weight, norm.bias
    new.running_mean, new.running_var = norm.running_mean, norm.running_var
    new.num_batches_tracked = norm.num_batches_tracked
    parts = dict(norm.named_children())
    if parts:  # timm's BatchNorm, which ends in dropout and an activation
        assert list(parts) == ["drop", "act"], f"{type(norm).__name__} with {list(parts)}"
        for name, part in parts.items():
            new.add_module(name, part)
        new.register_forward_hook(_then_activation)
    return new.train(norm.training)


def _then_activation(norm: Any, inputs: object, out: Tensor) -> Tensor:
    del inputs
    activated: Tensor = norm.act(norm.drop(out))
    return activated


def num_groups(mode: str) -> int:
    """The G of `groups:G`, 1 for the other modes.

    Raises:
        ValueError: `mode` is no known mode, or G < 2.
    """
    if mode in ("local", "synchronised"):
        return 1
    prefix, _, count = mode.partition(":")
    if prefix != "groups" or not count.isdigit() or int(count) < 2:
        raise ValueError(
            f"batch_norm: expected local, synchronised or groups:G with G >= 2, got {mode!r}"
        )
    return int(count)


@contextmanager
def frozen_running_statistics(module: nn.Module) -> Iterator[None]:
    """Inside, BatchNorm in training still normalises by the batch but records nothing."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True

"""The optimizers of the published recipes, built from typed settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ssl_bf.schedules import Plan


@dataclass(frozen=True, kw_only=True)
class SgdConfig:
    """Stochastic gradient descent with momentum, as MoCo-v2 and SimSiam use it."""

    name: Literal["sgd"] = "sgd"
    base_learning_rate: float = 0.03  # per 256 images of the global batch, after the warm-up
    momentum: float = 0.9  # share of the last update that is kept
    weight_decay: float = 1e-4  # times the weight, added to its gradient
    warmup_epochs: float = 0.0  # in which the rate rises from 0; a cosine to 0 follows
    exclude_1d_from_weight_decay: bool = False  # biases and norms

    def __post_init__(self) -> None:
        _check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class LarsConfig:
    """LARS as MoCo-v3 uses it; 1-D parameters never have weight decay or a trust ratio."""

    name: Literal["lars"] = "lars"
    base_learning_rate: float = 0.3  # per 256 images of the global batch, after the warm-up
    momentum: float = 0.9  # share of the last update that is kept
    weight_decay: float = 1e-6  # times the weight, added to its gradient
    trust_coefficient: float = 0.001  # norm of an update, as a share of the norm of its weights
    warmup_epochs: float = 10.0  # in which the rate rises from 0; a cosine to 0 follows

    def __post_init__(self) -> None:
        _check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class AdamWConfig:
    """AdamW with decoupled weight decay, as MoCo-v3 uses it for vision transformers."""

    name: Literal["adamw"] = "adamw"
    base_learning_rate: float = 1.5e-4  # per 256 images of the global batch, after the warm-up
    betas: tuple[float, float] = (0.9, 0.999)  # decay of the averages of gradient and its square
    weight_decay: float = 0.1  # times the learning rate and the weight, taken off at each step
    warmup_epochs: float = 40.0  # in which the rate rises from 0; a cosine to 0 follows
    exclude_1d_from_weight_decay: bool = False  # biases and norms

    def __post_init__(self) -> None:
        _check_ranges(self)


OptimizerConfig = SgdConfig | LarsConfig | AdamWConfig

_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "base_learning_rate": ("> 0", lambda value: value > 0),
    "trust_coefficient": ("> 0", lambda value: value > 0),
    "weight_decay": (">= 0", lambda value: value >= 0),
    "warmup_epochs": (">= 0", lambda value: value >= 0),
    "momentum": ("at least 0 and below 1", lambda value: 0 <= value < 1),
    "betas": ("at least 0 and below 1", lambda value: 0 <= value < 1),
}


def _check_ranges(config: OptimizerConfig) -> None:
    for setting in fields(config):
        if setting.name not in _RANGES:
            continue
        given = getattr(config, setting.name)
        expected, is_valid = _RANGES[setting.name]
        for value in given if isinstance(given, tuple) else (given,):
            if not (math.isfinite(value) and is_valid(value)):
                raise ValueError(f"{setting.name}: must be {expected}, got {value}")


def peak_learning_rate(config: OptimizerConfig, batch_size: int) -> float:
    """Learning rate after the warm-up: the base value is per 256 images of the global batch."""
    return config.base_learning_rate * batch_size / 256


@dataclass(frozen=True, eq=False)
class ParameterGroup:
    """Parameters that share a learning rate.

    Attributes:
        name: shown in logs.
        parameters: (name, parameter); names are those of the method's `state_dict`.
        learning_rate_scale: multiplies the planned learning rate.
        schedule: `cosine` follows the plan; `constant` stays at the peak (SimSiam's predictor).
        decays: whether weight decay applies, where the optimizer has it.
    """

    name: str
    parameters: list[tuple[str, nn.Parameter]]
    learning_rate_scale: float = 1.0
    schedule: Literal["cosine", "constant"] = "cosine"
    decays: bool = True


class Lars(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling with the rule of MoCo-v3.

    For a parameter w, u = g + weight_decay * w is multiplied by trust_coefficient * |w| / |u| (by 1
    where either norm is 0, and in groups whose trust_coefficient is None). Then
    buffer = momentum * buffer + u and w = w - learning_rate * buffer.

    Source: You et al. 2017 (arXiv 1708.03888), as published with MoCo-v3 (arXiv 2104.02057).
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float | None = 0.001,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closure, no loss
        """Update every parameter that has a gradient."""
        assert closure is None, "Lars takes no closure"
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            updates, weight_decay = [p.grad for p in params], group["weight_decay"]
            if group["trust_coefficient"] is not None:
                updates, weight_decay = _trusted_updates(group, params, updates), 0.0
            torch._fused_sgd_(
                params,
                updates,
                self._momentum_buffers(params),
                weight_decay=weight_decay,
                momentum=group["momentum"],
                lr=group["lr"],
                dampening=0.0,
                nesterov=False,
                maximize=False,
                is_first_step=False,
            )

    def _momentum_buffers(self, params: list[Tensor]) -> list[Tensor]:
        for p in params:
            if p not in self.state:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        return [self.state[p]["momentum_buffer"] for p in params]


def _trusted_updates(
    group: dict[str, Any], params: list[Tensor], gradients: list[Tensor]
) -> list[Tensor]:
    """Decayed gradients, each scaled by its trust ratio; nothing waits for the device."""
    updates = list(torch._foreach_add(gradients, params, alpha=group["weight_decay"]))
    norms = torch.stack(torch._foreach_norm(params + updates)).view(2, -1)  # of params, of updates
    ratios = group["trust_coefficient"] * norms[0] / norms[1]
    ratios.masked_fill_(norms.amin(dim=0) == 0, 1.0)
    torch._foreach_mul_(updates, ratios.unbind())
    return updates


def build_optimizer(
    config: OptimizerConfig, groups: Sequence[ParameterGroup]
) -> torch.optim.Optimizer:
    """Optimizer over all groups; its learning rates are 0 until `set_learning_rates` is called.

    Its `param_groups` carry `name`, `learning_rate_scale`, `schedule` and torch's `param_names`.
    Where 1-D parameters are excluded from weight decay, as always with LARS, they are a group of
    their own, named "NAME without weight decay".
    """
    named = [pair for group in groups for pair in group.parameters]
    names = [name for name, _ in named]
    repeated = {name for name in names if names.count(name) > 1}
    assert not repeated, f"names given twice to the optimizer: {sorted(repeated)}"
    assert len({id(p) for _, p in named}) == len(named), "a parameter stands under two names"
    frozen = [name for name, p in named if not p.requires_grad]
    assert not frozen, f"frozen parameters given to the optimizer: {frozen}"

    param_groups = [part for group in groups for part in _torch_groups(config, group)]
    if isinstance(config, AdamWConfig):
        return torch.optim.AdamW(param_groups, lr=0.0, betas=config.betas, fused=True)
    if isinstance(config, SgdConfig):
        return torch.optim.SGD(param_groups, lr=0.0, momentum=config.momentum, fused=True)
    trust = config.trust_coefficient
    return Lars(param_groups, lr=0.0, momentum=config.momentum, trust_coefficient=trust)


def _torch_groups(config: OptimizerConfig, group: ParameterGroup) -> list[dict[str, Any]]:
    settings = {"learning_rate_scale": group.learning_rate_scale, "schedule": group.schedule}
    whole = {"name": group.name, "weight_decay": config.weight_decay, **settings}
    plain: dict[str, Any] = {"name": f"{group.name} without weight decay", "weight_decay": 0.0}
    if isinstance(config, LarsConfig):
        plain["trust_coefficient"] = None
    elif group.decays and not config.exclude_1d_from_weight_decay:
        return [{"params": group.parameters, **whole}] if group.parameters else []
    matrices = [(name, p) for name, p in group.parameters if group.decays and p.ndim > 1]
    vectors = [(name, p) for name, p in group.parameters if not group.decays or p.ndim <= 1]
    parts = [{"params": matrices, **whole}, {"params": vectors, **whole, **plain}]
    return [part for part in parts if part["params"]]


def set_learning_rates(optimizer: torch.optim.Optimizer, plan: Plan, step: int) -> None:
    """Set every group's learning rate for update number `step`."""
    planned = plan.learning_rate(step)
    for group in optimizer.param_groups:
        rate = plan.peak_learning_rate if group["schedule"] == "constant" else planned
        if isinstance(group["lr"], Tensor):  # which a CUDA graph reads at every replay
            group["lr"].fill_(rate * group["learning_rate_scale"])
        else:
            group["lr"] = rate * group["learning_rate_scale"]


def state_keys(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    """Names of the tensors the optimizer keeps for each parameter that has stepped."""
    if isinstance(optimizer, torch.optim.AdamW):
        return ("step", "exp_avg", "exp_avg_sq")
    return ("momentum_buffer",)

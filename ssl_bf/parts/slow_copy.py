"""Slow copies: modules that follow another one as an exponential moving average.

Source: He et al. 2020, eq. 2 (arXiv 1911.05722). Parameters are averaged; BatchNorm buffers are
not, the copy keeps its own because it runs in train mode (as in the published MoCo code).
"""

import copy
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def make_slow_copy(module: ModuleT) -> ModuleT:
    """Copy a module; the copy's parameters never receive a gradient."""
    return copy.deepcopy(module).requires_grad_(False)


class SlowCopies:
    """Modules that follow others; their parameters are listed once, not at every step."""

    def __init__(self, pairs: Iterable[tuple[nn.Module, nn.Module]]) -> None:
        """`pairs` of (slow, fast) modules of equal structure; a parameter may occur once only."""
        self._slow: list[Tensor] = []
        self._fast: list[Tensor] = []
        for slow, fast in pairs:
            self._slow.extend(slow.parameters())
            self._fast.extend(fast.parameters())
        counts = len(self._slow), len(self._fast)
        assert counts[0] == counts[1], counts

    @torch.no_grad()
    def move(self, momentum: float | Tensor) -> None:
        """Set slow <- momentum * slow + (1 - momentum) * fast in place.

        `momentum` is in [0, 1]; 1 freezes the slow copies, 0 overwrites them. As a scalar tensor
        it is read on the device: a CUDA graph then reads it at every replay.
        """
        if not self._slow:
            return
        if isinstance(momentum, Tensor):
            # One step down |slow - fast|^2 / 2: no other kernel for lists reads its rate there.
            torch._fused_sgd_(
                self._slow,
                self._fast,
                [],
                weight_decay=1.0,
                momentum=0.0,
                lr=(1.0 - momentum).float(),  # exact if momentum is float64
                dampening=0.0,
                nesterov=False,
                maximize=True,
                is_first_step=False,
            )
        else:
            torch._foreach_lerp_(self._slow, self._fast, 1.0 - momentum)

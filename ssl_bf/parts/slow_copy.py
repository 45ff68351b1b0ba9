"""Slow copies: modules that follow another one as an exponential moving average.

Source: He et al. 2020, eq. 2 (arXiv 1911.05722). Parameters are averaged; BatchNorm buffers are
not, the copy keeps its own because it runs in train mode (as in the published MoCo code).
"""

import copy
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def make_slow_copy(module: ModuleT) -> ModuleT:
    """Copy a module; the copy's parameters never receive a gradient."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def move_slow_copies(pairs: Iterable[tuple[nn.Module, nn.Module]], momentum: float) -> None:
    """Set slow <- momentum * slow + (1 - momentum) * fast for every (slow, fast) pair, in place.

    Args:
        pairs: modules of equal structure; a parameter may occur once only.
        momentum: in [0, 1]; 1 freezes the slow copies, 0 overwrites them.
    """
    slow: list[torch.Tensor] = []
    fast: list[torch.Tensor] = []
    for slow_module, fast_module in pairs:
        slow.extend(slow_module.parameters())
        fast.extend(fast_module.parameters())
    assert len(slow) == len(fast), (len(slow), len(fast))
    if slow:
        torch._foreach_lerp_(slow, fast, 1.0 - momentum)

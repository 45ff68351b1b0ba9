"""Dense weight averaging: the mean of the weights after every step from some step on.

Source: Cha et al. 2021 (SWAD, arXiv 2102.08604), which averages every iterate; Izmailov et al. 2018
(arXiv 1803.05407), one per epoch. Differs: the first iterate is given as a share of the run, not
found on a validation loss; BatchNorm's running statistics are averaged like the weights, instead of
made anew by another pass over the images.
"""

import torch
from torch import Tensor, nn

from ssl_bf.parts.slow_copy import make_slow_copy


class WeightAverage(nn.Module):
    """A slow copy with momentum 1 - 1 / t at the t-th step that counts; before, the module itself.

    Parameters and floating-point buffers are averaged, other buffers (counters) are copied.
    """

    steps: Tensor

    def __init__(self, module: nn.Module) -> None:
        """Start as a copy of `module`."""
        super().__init__()
        self.average = make_slow_copy(module)
        self.register_buffer("steps", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def move(self, module: nn.Module, *, counts: bool) -> None:
        """Follow a step of `module`; where it does not count, become equal to it."""
        pairs = list(zip(_state(self.average), _state(module), strict=True))
        averaged = [pair for pair in pairs if counts and pair[0].is_floating_point()]
        copied = [pair for pair in pairs if not (counts and pair[0].is_floating_point())]
        if copied:
            torch._foreach_copy_([slow for slow, _ in copied], [fast for _, fast in copied])
        if counts:
            self.steps += 1
            slow = [pair[0] for pair in averaged]
            changes = torch._foreach_sub([fast for _, fast in averaged], slow)
            torch._foreach_mul_(changes, (1 / self.steps).float())  # not waited for on a GPU
            torch._foreach_add_(slow, changes)


def _state(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]

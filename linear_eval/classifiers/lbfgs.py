"""Smooth convex problems minimised together by L-BFGS, each with its own steps and its own end.

Shapes: L problems, l of them still descending, n unknowns of each, H remembered steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

_REMEMBERED = 20  # H
_SUFFICIENT = 1e-4  # share of the decrease that the slope promises
_ROUNDING = 2.0**-22  # of a value: a rise by no more counts as none
_SHORTEST = 1e-8  # step at which rounding hides every decrease

Evaluate = Callable[["Tensor", "Tensor"], tuple["Tensor", "Tensor"]]
"""Points (l, n) of problems number (l,) -> values (l,) float64 and gradients (l, n)."""


def minimise(
    evaluate: Evaluate,
    start: Tensor,
    *,
    tolerance: float,
    max_iterations: int,
    memory: Memory,
) -> Tensor:
    """The minimum of every problem, (L, n).

    One evaluation an iteration tries one point of every problem that has not ended. A point that
    is no better is tried again closer by; of a convex problem, an accepted one needs no more.

    Args:
        evaluate: the problems.
        start: (L, n) float32.
        tolerance: a problem ends where no entry of its gradient is larger, but not at the start: of
            a weak curvature, a small gradient may be far from the minimum.
        max_iterations: and here at the latest.
        memory: empty, or of a descent that ended nearby; it goes on with this one.

    Source: Nocedal & Wright 2006, Numerical Optimization, algorithms 7.4 and 3.1.
    """
    found, point = start.clone(), start
    value, gradient = evaluate(point, memory.numbers)
    step = memory.first_step(gradient)
    for iteration in range(max_iterations):
        running = (gradient.abs().amax(dim=1) > tolerance) & (step > _SHORTEST)
        if iteration and not running.all():
            found[memory.numbers] = point
            if not running.any():
                break
            point, value, gradient, step = (
                each[running] for each in (point, value, gradient, step)
            )
            memory.keep(running)
        direction = -memory.newton_step(gradient)
        slope = _dot(direction, gradient)
        trial = torch.addcmul(point, direction, step[:, None])
        new_value, new_gradient = evaluate(trial, memory.numbers)
        rise = (new_value - value).float()
        promised = step * slope
        good = rise <= _SUFFICIENT * promised + _ROUNDING * value.abs().float()
        memory.add(trial - point, new_gradient - gradient, good)
        # the minimum of the parabola through both values and the slope
        closer = (-promised / (2 * (rise - promised))).nan_to_num(0.1).clamp(0.1, 0.5)
        step = torch.where(good, 1.0, step * closer)
        point = torch.where(good[:, None], trial, point)
        gradient = torch.where(good[:, None], new_gradient, gradient)
        value = torch.where(good, new_value, value)
    found[memory.numbers] = point
    return found


class Memory:
    """The last H steps of every problem, and what they did to its gradient."""

    def __init__(self, problems: int, device: torch.device) -> None:
        """Empty."""
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []  # (l, n), (l, n), 1 / their product
        self.scale = torch.ones(
            problems, device=device
        )  # of the inverse Hessian, from the last step
        self.numbers = torch.arange(problems, device=device)  # of the problems, (l,)

    def first_step(self, gradient: Tensor) -> Tensor:
        """How far to go at first along `newton_step` of the gradients (l, n), (l,)."""
        if self.pairs:
            return torch.ones_like(self.scale)
        length: Tensor = torch.linalg.vector_norm(gradient, dim=1)
        return length.clamp(min=1).reciprocal()

    def add(self, moved: Tensor, change: Tensor, good: Tensor) -> None:
        """Remember the steps that were `good` (l,) and whose curvature rounding does not hide."""
        curvature, size = _dot(moved, change), _dot(change, change)
        sound = good & (curvature > 1e-10 * size)
        inverse = torch.where(sound, curvature.reciprocal(), 0.0)  # 0: the pair does nothing
        self.scale = torch.where(sound, curvature / size, self.scale)
        self.pairs = [*self.pairs[1 - _REMEMBERED :], (moved, change, inverse)]

    def shift(self, curvature: Tensor) -> None:
        """Be that of the problems with curvature / 2 times the squared unknowns added, (l, n)."""
        pairs, self.pairs = self.pairs, []
        for moved, change, inverse in pairs:
            self.add(moved, torch.addcmul(change, moved, curvature), inverse > 0)

    def keep(self, running: Tensor) -> None:
        """Forget the problems that are not `running` (l,)."""
        self.pairs = [(a[running], b[running], c[running]) for a, b, c in self.pairs]
        self.scale, self.numbers = self.scale[running], self.numbers[running]

    def of(self, number: int, problems: int) -> Memory:
        """That of one problem, for several to begin with; empty if it ended before the last did."""
        row = (self.numbers == number).nonzero()[:, 0]
        memory = Memory(problems, self.scale.device)
        if len(row):
            memory.pairs = [
                (a[row].expand(problems, -1), b[row].expand(problems, -1), c[row].expand(problems))
                for a, b, c in self.pairs
            ]
            memory.scale = self.scale[row].expand(problems)
        return memory

    def newton_step(self, gradient: Tensor) -> Tensor:
        """Approximate inverse Hessian times gradient, (l, n)."""
        result, weights = gradient.clone(), []
        for moved, change, inverse in reversed(self.pairs):
            weights.append(inverse * _dot(moved, result))
            result.addcmul_(change, weights[-1][:, None], value=-1)
        result.mul_(self.scale[:, None])
        for (moved, change, inverse), weight in zip(self.pairs, reversed(weights), strict=True):
            result.addcmul_(moved, (weight - inverse * _dot(change, result))[:, None])
        return result


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Row by row, (l,)."""
    return (left * right).sum(dim=1)

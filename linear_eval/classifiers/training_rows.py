"""Rows that a classifier is fitted on: one or several tables, in one or several augmented passes.

Shapes: M images, D feature width, P passes, B images of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from linear_eval.features.rows import FeatureRows

if TYPE_CHECKING:
    from torch import Tensor

_HELD_BYTES = 2**30
_AT_ONCE = 2**17  # entries of a chunk for the statistics: a MiB of float64


class TrainingRows:
    """Rows by number, as float32 on a device; held there, already normalised, where they fit.

    What does not fit a GiB (memory-mapped features of a large data set, or many passes) is read
    and normalised batch by batch.
    """

    def __init__(self, passes: Sequence[FeatureRows], device: torch.device) -> None:
        """Rows of each pass, all alike in number and width."""
        self.passes = tuple(passes)
        self.device = device
        self.mean = torch.zeros(self.width, device=device)
        self.scale = torch.ones(self.width, device=device)
        self.held: Tensor | None = None

    @classmethod
    def of(cls, tables: Sequence[Tensor], device: torch.device | str = "cpu") -> TrainingRows:
        """Rows of tables (M_i, D), one below the other."""
        return cls([FeatureRows(tuple(tables))], torch.device(device))

    @classmethod
    def of_views(
        cls, tables: Sequence[Sequence[Tensor]], device: torch.device | str = "cpu"
    ) -> TrainingRows:
        """Rows of tables, one below the other, each of P passes (M_i, D)."""
        passes = [FeatureRows(parts) for parts in zip(*tables, strict=True)]
        return cls(passes, torch.device(device))

    def __len__(self) -> int:
        return len(self.passes[0])

    @property
    def width(self) -> int:
        """D."""
        return self.passes[0].width

    def var_mean(self) -> tuple[Tensor, Tensor]:
        """Biased variance and mean (D,) over all rows of all passes, summed in float64."""
        at_once = max(1, _AT_ONCE // self.width)
        total = torch.zeros(self.width, dtype=torch.float64, device=self.device)
        squares = torch.zeros_like(total)
        for rows in self.passes:
            for start in range(0, len(rows), at_once):
                chunk = rows.between(start, start + at_once, self.device).double()
                total += chunk.sum(dim=0)
                squares += chunk.square().sum(dim=0)
        count = len(self) * len(self.passes)
        mean = total / count
        return (squares / count - mean.square()).clamp(min=0).float(), mean.float()

    def normalise(self, mean: Tensor, scale: Tensor) -> None:
        """From now on, hand out (row - mean) * scale, both (D,)."""
        self.mean, self.scale = mean, scale
        if len(self.passes) == 1 and 4 * len(self) * self.width <= _HELD_BYTES:
            self.held = (self.passes[0].between(0, len(self), self.device) - mean).mul_(scale)

    def take(self, epoch: int, index: Tensor) -> Tensor:
        """Rows `index` (B,) of the pass that `epoch` sees, (B, D) float32."""
        if self.held is not None:
            return self.held.index_select(0, index)
        rows = self.passes[epoch % len(self.passes)]
        return (rows.take(index, self.device) - self.mean) * self.scale

    def between(self, start: int, stop: int) -> Tensor:
        """Rows [start, stop) of the first pass, (stop - start, D) float32; may share memory."""
        if self.held is not None:
            return self.held[start:stop]
        return (self.passes[0].between(start, stop, self.device) - self.mean) * self.scale

"""Rows of features for a search: in one tensor or several, normalised a few at a time.

A gallery may be larger than the memory: its parts may be memory-mapped, of any floating type.

Shapes: N rows, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Metric = Literal["inner", "cosine", "euclidean"]
"""What "nearest" means: the largest inner product, the largest cosine, the smallest distance."""

_CHECKED_AT_ONCE = 2**20  # entries


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """Rows of one or several tables, one below the other.

    Attributes:
        parts: each (N_i, D), any floating type.
        metric: with `cosine`, rows are handed out at length 1.
    """

    parts: tuple[Tensor, ...]
    metric: Metric = "inner"

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    @property
    def width(self) -> int:
        """D."""
        return self.parts[0].shape[1]

    @property
    def device(self) -> torch.device:
        """Where the rows lie."""
        return self.parts[0].device

    def between(self, start: int, stop: int, device: torch.device) -> Tensor:
        """Rows [start, stop) on `device`, (stop - start, D) float32; may share memory."""
        found, first = [], 0
        for part in self.parts:
            piece = part[max(0, start - first) : max(0, stop - first)]
            first += len(part)
            if len(piece):
                found.append(self._prepared(piece.to(device)))
        return found[0] if len(found) == 1 else torch.cat(found)

    def take(self, index: Tensor, device: torch.device) -> Tensor:
        """Rows `index` (n,) on `device`, (n, D) float32."""
        index = index.to(self.device)
        if len(self.parts) == 1:
            return self._prepared(self.parts[0][index].to(device))
        found = torch.empty(len(index), self.width, device=device)
        first = 0
        for part in self.parts:
            here = ((index >= first) & (index < first + len(part))).nonzero()[:, 0]
            rows = part[index[here] - first].to(device)
            found[here.to(device)] = self._prepared(rows)
            first += len(part)
        return found

    def _prepared(self, rows: Tensor) -> Tensor:
        return unit_rows(rows) if self.metric == "cosine" else rows.float()


def feature_rows(
    features: Tensor | Sequence[Tensor], metric: Metric = "inner", *, name: str = "features"
) -> FeatureRows:
    """Check features and make rows of them.

    Args:
        features: one table (N, D) or several, any floating type.
        metric: see `FeatureRows`.
        name: for the message.

    Raises:
        InputError: no rows, unequal widths, or entries that are NaN or infinite.
    """
    parts = (features,) if isinstance(features, torch.Tensor) else tuple(features)
    shapes = [tuple(part.shape) for part in parts]
    if any(part.dim() != 2 for part in parts) or not sum(part.numel() for part in parts):
        raise InputError(
            f"{name}: expected rows of features, got shape {', '.join(map(str, shapes))}"
        )
    if len({shape[1] for shape in shapes}) > 1:
        raise InputError(
            f"{name}: parts of {', '.join(str(shape[1]) for shape in shapes)} features a row, "
            "expected one width; extract all with one backbone"
        )
    parts = tuple(part for part in parts if len(part))
    require_finite(parts, name)
    return FeatureRows(parts, metric)


def require_finite(features: Tensor | Sequence[Tensor], name: str) -> None:
    """Refuse NaN and infinite entries of features (N, D), or of several parts of them.

    Raises:
        InputError: with `name`, the number of rows concerned and the first of them.
    """
    parts = (features,) if isinstance(features, torch.Tensor) else tuple(features)
    bad: list[Tensor] = []
    first = 0
    for part in parts:
        for chunk in torch.split(part, max(1, _CHECKED_AT_ONCE // max(1, part.shape[1]))):
            # one pass: a NaN anywhere is both the least and the largest entry
            if chunk.numel() and not torch.stack(torch.aminmax(chunk)).isfinite().all():
                bad.append((~chunk.isfinite().all(dim=1)).nonzero()[:, 0] + first)
            first += len(chunk)
    rows = torch.cat(bad) if bad else torch.empty(0)
    if len(rows):
        raise InputError(
            f"{name}: {len(rows)} of {first} rows hold NaN or infinite values, first in row "
            f"{int(rows[0])}, expected finite features; look at the backbone and at that image"
        )


def unit_rows(features: Tensor) -> Tensor:
    """Rows (N, D) at length 1 in float32; a zero row stays zero, equally similar to every row.

    Each is divided by its largest entry first, whose square may be out of float32's range.
    """
    features = features.float()
    largest = features.abs().amax(dim=1, keepdim=True)
    scaled = features / torch.where(largest > 0, largest, 1)
    length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True, dtype=torch.float64)
    unit: Tensor = scaled / length.float().clamp(min=1)
    return unit

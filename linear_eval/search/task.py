"""The inputs of a search, and exact similarities between them.

Shapes: D feature width, n gallery rows, b queries at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from linear_eval.features.rows import FeatureRows
from linear_eval.search.similarity_keys import similarity_keys
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class SearchTask:
    """What is searched for, where, and in how much memory.

    Attributes:
        queries: checked rows.
        gallery: likewise, of the same width.
        exclude_self: queries and gallery are the same rows; row i is no neighbour of its own.
        memory: bytes, a quarter of the budget.
    """

    queries: FeatureRows
    gallery: FeatureRows
    exclude_self: bool
    memory: int  # bytes, a quarter of the budget

    @property
    def device(self) -> torch.device:
        """Where to compute."""
        return self.queries.device

    @property
    def tile_rows(self) -> int:
        """Gallery rows whose float64 copy fits `memory`."""
        return min(len(self.gallery), max(1, self.memory // (8 * self.gallery.width)))

    def chunks(self, rows: Tensor, keys_per_row: int) -> tuple[Tensor, ...]:
        """Split `rows` so that their keys, with all that makes them (64 bytes), fit 2 `memory`."""
        return torch.split(rows, max(1, self.memory // (32 * keys_per_row)))

    def query_rows(self, rows: Tensor) -> Tensor:
        """Queries `rows` (b,) as (b, D) float64."""
        return self.queries.take(rows, self.device).double()

    def similarities(self, queries: Tensor, items: Tensor) -> Tensor:
        """Of queries (b, D) with their own items (b, n, D), or with all items (n, D): (b, n).

        All in float64; `items` may be overwritten. Distances are summed from differences: squared
        norms less products would turn the distance of equal rows into noise.
        """
        own = items.dim() == 3
        if self.gallery.metric == "euclidean":
            if own:
                return items.sub_(queries[:, None]).square_().sum(dim=2).neg_()
            distances = torch.cdist(queries, items, compute_mode="donot_use_mm_for_euclid_dist")
            return distances.square_().neg_()
        return torch.bmm(items, queries[:, :, None])[:, :, 0] if own else queries @ items.T

    def keys(self, similarities: Tensor, rows: Tensor, index: Tensor) -> Tensor:
        """Keys (b, n) of queries `rows` (b,) with gallery rows `index`, (b, n) or (n,)."""
        return similarity_keys(similarities, index, self.excluded(rows, index))

    def excluded(self, rows: Tensor, index: Tensor) -> Tensor:
        """Which pairs (b, n) of queries `rows` (b,) with gallery rows `index` do not count."""
        return (index == rows[:, None]) & self.exclude_self


def open_task(
    queries: FeatureRows,
    gallery: FeatureRows,
    exclude_self: bool,
    memory_mib: int,
) -> SearchTask:
    """Check that the two fit.

    Raises:
        InputError: their widths differ, or the budget is less than a MiB.
    """
    if queries.width != gallery.width:
        raise InputError(
            f"queries: {queries.width} features a row, expected {gallery.width} as in the "
            "gallery; extract both with one backbone"
        )
    if memory_mib < 1:
        raise InputError(f"memory_mib: must be >= 1, got {memory_mib}")
    return SearchTask(
        queries=queries,
        gallery=gallery,
        exclude_self=exclude_self,
        memory=memory_mib * 2**18,
    )

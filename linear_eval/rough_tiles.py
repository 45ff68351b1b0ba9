"""Rows rounded for fast and inexact products, with bounds on the error of those products.

Shapes: Q queries, G gallery rows, D feature width, T rows of a tile, padded to a multiple of
STRIPES, b queries of a chunk.
"""

from __future__ import annotations

import functools
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from linear_eval.feature_rows import FeatureRows

if TYPE_CHECKING:
    from torch import Tensor

STRIPES = 16  # a tile is cut into as many; rows at one place of each are compared together
ROWS_AT_ONCE = 512  # whose float64 copy about fits a core's cache
_MOST_QUERIES = 1024  # of a chunk, for the same reason
_EVEN = 16  # a chunk holds a multiple of so many queries, which products are faster with


class Tile(NamedTuple):
    """Gallery rows [first, first + size)."""

    first: int  # gallery row
    size: int
    blocks: tuple[Tensor, ...]  # its rows, float32, ROWS_AT_ONCE each
    rough: Tensor  # (T, D): the rows less a centre, rounded; zeros where padded
    longest: float  # norm of a row in `rough`
    rounding: float  # largest norm of what rounding took from a row


class Chunk(NamedTuple):
    """Queries, ready to be multiplied with a tile."""

    rows: Tensor  # (b,) query numbers
    exact: Tensor  # (b, D) float64
    rough: Tensor  # (b, D)
    shift: Tensor  # (b,) float64: what a product with a centred row lacks
    error: Tensor  # (b,) float64: bound on the error of a rough product


@dataclass(frozen=True, eq=False)
class RoughSearch:
    """A search by rounded rows, and the sizes of its steps.

    Attributes:
        memory: bytes for a copy of a tile, and as much again for its products.
        threads: that share the memory, each with a chunk of queries.
        center: (D,), subtracted from gallery rows before rounding; that shifts a query's products
            by a constant, and shrinks the errors where all rows point one way.
        dtype: rounded to.
    """

    queries: FeatureRows
    gallery: FeatureRows
    k: int
    exclude_self: bool
    memory: int
    threads: int
    center: Tensor
    dtype: torch.dtype

    @property
    def unit(self) -> float:
        """The largest relative error of rounding to `dtype`."""
        return torch.finfo(self.dtype).eps / 2

    @property
    def most(self) -> int:
        """Candidates per query and tile beyond which to give up."""
        return 8 * (self.k + 64)

    @property
    def tile_rows(self) -> int:
        """Gallery rows of a tile."""
        return min(len(self.gallery), max(1, self.memory // (4 * self.gallery.width)))

    @property
    def chunk_rows(self) -> int:
        """Queries of a chunk: as many as fit, and as many chunks for every thread."""
        per_query = max(
            self.tile_rows * self.dtype.itemsize, 16 * self.most, 16 * self.gallery.width
        )
        fitting = max(1, min(self.memory // self.threads // per_query, _MOST_QUERIES))
        share = math.ceil(len(self.queries) / self.threads)
        equal = math.ceil(share / math.ceil(share / fitting))
        return min(fitting, math.ceil(equal / _EVEN) * _EVEN)

    def tile(self, first: int, pool: ThreadPoolExecutor) -> Tile:
        """The tile that begins with gallery row `first`."""
        size = min(self.tile_rows, len(self.gallery) - first)
        padded = math.ceil(size / STRIPES) * STRIPES
        rough = torch.zeros(padded, self.gallery.width, dtype=self.dtype)

        def prepare(start: int) -> tuple[Tensor, float, float]:
            stop = min(size, start + ROWS_AT_ONCE)
            part = self.gallery.between(first + start, first + stop, rough.device)
            centred = part - self.center
            rounded = rough[start:stop].copy_(centred).float()
            lost = torch.linalg.vector_norm(centred.sub_(rounded), dim=1)
            return part, float(torch.linalg.vector_norm(rounded, dim=1).amax()), float(lost.amax())

        prepared = pool.map(prepare, range(0, size, ROWS_AT_ONCE))
        blocks, longest, rounding = zip(*prepared, strict=True)
        return Tile(first, size, blocks, rough, max(longest), max(rounding))

    def chunk(self, first: int, tile: Tile) -> Chunk:
        """The chunk that begins with query `first`, with error bounds for one tile."""
        part = self.queries.between(first, first + self.chunk_rows, torch.device("cpu"))
        rough, exact = part.to(self.dtype), part.double()
        lost = torch.linalg.vector_norm(exact - rough, dim=1)
        length = torch.linalg.vector_norm(exact, dim=1)
        # float32 sums of D products of rounded differences, whatever their order
        summing = (self.gallery.width + 8) * 2.0**-24 * (length + lost) * tile.longest
        return Chunk(
            rows=torch.arange(first, first + len(part)),
            exact=exact,
            rough=rough,
            shift=exact @ self.center.double(),
            error=length * tile.rounding + lost * tile.longest + 2 * summing,
        )


@functools.cache
def rough_dtype() -> torch.dtype:
    """The type whose matrix products are faster here: bfloat16 or float32.

    It is measured, in milliseconds: whether a processor can and whether torch makes use of it
    differ by platform and build. The choice never changes a result.
    """
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.ones(1024, 256, dtype=dtype), torch.ones(64, 256, dtype=dtype)
        times = []
        for _ in range(8):
            start = time.perf_counter()
            torch.mm(left, right.T)
            times.append(time.perf_counter() - start)
        seconds[dtype] = min(times)
    return min(seconds, key=lambda dtype: seconds[dtype])

"""Rows rounded for fast and inexact products, with bounds on the error of those products.

Shapes: Q queries, G gallery rows, D feature width, T rows of a tile, b queries of a chunk,
m blocks of a tile, S rows of a stripe in a block.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from linear_eval.features.rows import FeatureRows
from linear_eval.search.rounding import fast_product, most_candidates, round_rows

if TYPE_CHECKING:
    from torch import Tensor

STRIPES = 16  # a block is cut into as many; rows at one place of each are compared together
BLOCK_ROWS = 2048  # about, of a block: what is done with its products finds them in the cache
_MOST_QUERIES = 1024  # of a chunk, for the same reason
_EVEN = 16  # a chunk holds a multiple of so many queries, which products are faster with
ROWS_AT_ONCE = 512  # whose float64 copy about fits a core's cache


class Tile(NamedTuple):
    """Gallery rows [first, first + size), cut into STRIPES stripes of m S rows, padded at the end.

    Block i of the rounded rows holds rows [i S, (i + 1) S) of every stripe.
    """

    first: int  # gallery row
    size: int
    exact: tuple[Tensor, ...]  # its rows, float32, ROWS_AT_ONCE each
    rough: (
        Tensor  # (m, STRIPES S, D): the rows less a centre, rounded, in steps; zeros where padded
    )
    step: Tensor  # (m, STRIPES S, 1) float32: of each row; 1 where `rough` is floating
    padded: Tensor  # (m, STRIPES S) bool
    longest: float  # norm of a row in `rough`
    rounding: float  # largest norm of what rounding took from a row


class Chunk(NamedTuple):
    """Queries, ready to be multiplied with a tile."""

    rows: Tensor  # (b,) query numbers
    exact: Tensor  # (b, D) float64
    rough: Tensor  # (b, D), in steps
    step: Tensor  # (b,) float64: what a rough product of 1 is worth
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
    def product_dtype(self) -> torch.dtype:
        """Of rough products."""
        return torch.float32 if self.dtype == torch.int8 else self.dtype

    @property
    def unit(self) -> float:
        """The largest relative error of rounding to `product_dtype`."""
        return torch.finfo(self.product_dtype).eps / 2

    @property
    def most(self) -> int:
        """Candidates per query and tile beyond which to give up."""
        return most_candidates(self.k)

    @property
    def tile_rows(self) -> int:
        """Gallery rows of a tile."""
        return min(len(self.gallery), max(1, self.memory // (4 * self.gallery.width)))

    @property
    def chunk_rows(self) -> int:
        """Queries of a chunk: as many as fit, and as many chunks for every thread."""
        per_query = max(
            self.tile_rows * self.product_dtype.itemsize, 16 * self.most, 16 * self.gallery.width
        )
        fitting = max(1, min(self.memory // self.threads // per_query, _MOST_QUERIES))
        share = math.ceil(len(self.queries) / self.threads)
        equal = math.ceil(share / math.ceil(share / fitting))
        return min(fitting, math.ceil(equal / _EVEN) * _EVEN)

    def tile(self, first: int, pool: ThreadPoolExecutor) -> Tile:
        """The tile that begins with gallery row `first`."""
        size, width = min(self.tile_rows, len(self.gallery) - first), self.gallery.width
        blocks = math.ceil(size / BLOCK_ROWS)
        sets = math.ceil(size / blocks / STRIPES)
        rough = torch.zeros(blocks, STRIPES, sets, width, dtype=self.dtype)
        steps = torch.ones(blocks, STRIPES, sets, 1)
        padded = torch.arange(blocks * STRIPES * sets).view(STRIPES, blocks, sets) >= size
        by_row, step_by_row = rough.transpose(0, 1), steps.transpose(0, 1)

        def prepare(start: int) -> tuple[Tensor, float, float]:
            stop = min(size, start + ROWS_AT_ONCE)
            part = self.gallery.between(first + start, first + stop, rough.device)
            centred = part - self.center
            rounded, step = round_rows(centred, self.dtype)
            row = torch.arange(start, stop)
            place = (row // (blocks * sets), row // sets % blocks, row % sets)
            by_row[place], step_by_row[place] = rounded, step
            worth = rounded.float() * step
            lost = torch.linalg.vector_norm(centred.sub_(worth), dim=1)
            return part, float(torch.linalg.vector_norm(worth, dim=1).amax()), float(lost.amax())

        prepared = pool.map(prepare, range(0, size, ROWS_AT_ONCE))
        exact, longest, rounding = zip(*prepared, strict=True)
        return Tile(
            first,
            size,
            exact,
            rough.view(blocks, -1, width),
            steps.view(blocks, -1, 1),
            padded.transpose(0, 1).reshape(blocks, -1),
            max(longest),
            max(rounding),
        )

    def chunk(self, first: int, tile: Tile) -> Chunk:
        """The chunk that begins with query `first`, with error bounds for one tile."""
        part = self.queries.between(first, first + self.chunk_rows, torch.device("cpu"))
        exact = part.double()
        rough, step = round_rows(part, self.dtype)
        lost = torch.linalg.vector_norm(exact - rough.float() * step, dim=1)
        length = torch.linalg.vector_norm(exact, dim=1)
        # float32 sums of D products of rounded differences, whatever their order
        summing = (self.gallery.width + 8) * 2.0**-24 * (length + lost) * tile.longest
        return Chunk(
            rows=torch.arange(first, first + len(part)),
            exact=exact,
            rough=rough,
            step=step[:, 0].double(),
            shift=exact @ self.center.double(),
            error=length * tile.rounding + lost * tile.longest + 2 * summing,
        )

    def space(self) -> Tensor:
        """Room for the products of a tile with a chunk."""
        rows = self.tile_rows + STRIPES * math.ceil(self.tile_rows / BLOCK_ROWS)
        return torch.empty(rows * self.chunk_rows, dtype=self.product_dtype)

    def multiply(self, tile: Tile, number: int, chunk: Chunk, out: Tensor) -> None:
        """Rough products (STRIPES S, b) of block `number`; -inf where padded."""
        block, multiply = tile.rough[number], fast_product(self.dtype)
        if self.dtype == torch.int8:
            whole = torch.empty(out.shape, dtype=torch.int32)
            multiply(block, chunk.rough, whole)
            torch.mul(whole, tile.step[number], out=out)
        else:
            multiply(block, chunk.rough, out)
        if tile.padded[number].any():
            out[tile.padded[number]] = -torch.inf

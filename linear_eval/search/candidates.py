"""Pairs of a query and a gallery row that a streamed search cannot rule out by rough products.

Shapes: n candidates; a tile has m blocks, each of STRIPES stripes of S rows; b queries of a chunk.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from linear_eval.search.rough_tiles import ROWS_AT_ONCE, STRIPES, Chunk, Tile
from linear_eval.search.similarity_keys import ordered_bits

if TYPE_CHECKING:
    from torch import Tensor

NO_KEY = 2**63 - 1  # the key of no row: worse than any


class Products(NamedTuple):
    """Rough products of a tile with a chunk."""

    all: Tensor  # (m, STRIPES, S, b)
    maxima: Tensor  # (m S, b): bits of the largest at one place of the stripes


def find_candidates(
    products: Tensor, hits: NDArray[np.bool_], floor: Tensor, ceiling: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs whose product is in [floor, ceiling), in the sets that are hit.

    Args:
        products: (m, STRIPES, S, b).
        hits: (m S, b), whether a set's largest product reaches the floor.
        floor: bits (b,).
        ceiling: bits (b,); None: there is none.

    Returns:
        Rows of the tile (n,) in rising order, columns (n,) and products (n,) float64.
    """
    (num_sets, size), sets_per_block = hits.shape, products.shape[2]
    hit = torch.from_numpy(np.flatnonzero(hits))
    sets, columns = hit // size, hit % size
    floors = floor[columns].numpy()
    ceilings = None if ceiling is None else ceiling[columns].numpy()
    # a block holds all stripes of its sets
    place = hit + sets // sets_per_block * ((STRIPES - 1) * sets_per_block * size)
    flat = products.view(-1)
    rows, kept, values = [], [], []
    for number in range(STRIPES):
        found = flat.index_select(0, place)
        bits = ordered_bits(found).numpy()
        inside = bits >= floors
        if ceilings is not None:
            inside &= bits < ceilings
        keep = torch.from_numpy(np.flatnonzero(inside))
        rows.append(sets.index_select(0, keep) + number * num_sets)
        kept.append(columns.index_select(0, keep))
        values.append(found.index_select(0, keep).double())
        place += sets_per_block * size
    return torch.cat(rows), torch.cat(kept), torch.cat(values)


def exact_products(tile: Tile, chunk: Chunk, rows: Tensor, columns: Tensor) -> Tensor:
    """Products (n,) float64 of rows of the tile (n,), in rising order, with queries `columns`."""
    result = torch.zeros(len(rows), dtype=torch.float64)
    ends = torch.zeros(tile.size + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(rows, minlength=tile.size), 0, out=ends[1:])
    copy = torch.empty(ROWS_AT_ONCE, chunk.exact.shape[1], dtype=torch.float64)
    for number, block in enumerate(tile.exact):
        start = number * ROWS_AT_ONCE
        end = ends[start : start + len(block) + 1]
        here = slice(int(end[0]), int(end[-1]))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            wanted = torch.sparse_csr_tensor(
                end - end[0],
                columns[here],
                result[here],
                (len(block), len(chunk.exact)),
                check_invariants=False,
            )
        items = copy[: len(block)].copy_(block)
        result[here] = torch.sparse.sampled_addmm(wanted, items, chunk.exact.T, beta=0).values()
    return result


def by_query(keys: Tensor, columns: Tensor, size: int) -> Tensor:
    """Keys (n,) of queries `columns` (n,) as one row per query, filled up: (size, most of any)."""
    counts = np.bincount(columns.numpy(), minlength=size)
    order = columns.numpy().astype(np.int16).argsort(kind="stable")  # a radix sort
    width = counts.max()
    skipped = np.arange(size) * width - (counts.cumsum() - counts)  # by the rows before
    table = np.full(size * width, NO_KEY)
    table[np.arange(len(order)) + skipped.repeat(counts)] = keys.numpy()[order]
    return torch.from_numpy(table).view(size, -1)

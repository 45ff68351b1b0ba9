"""Exact nearest neighbours on a CPU in one pass over the gallery: rough products, then exact ones.

The gallery passes tile by tile. Rough products (bfloat16 where the machine multiplies it faster)
of a tile with a chunk of queries leave out every row that rounding cannot lift among a query's k
best, those of earlier tiles included. The products of the rest are summed in float64, sorted by
gallery row, so that each row is read once for all queries. What is left out is certain, so the
result is that of ranking everything.

Shapes: Q queries, G gallery rows, D feature width, k neighbours, T rows of a tile, padded to a
multiple of STRIPES, b queries of a chunk, S = T / STRIPES, n candidates: pairs of row and query.
"""

from __future__ import annotations

import functools
import warnings
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np
import torch

from linear_eval.feature_rows import FeatureRows
from linear_eval.rough_tiles import ROWS_AT_ONCE, STRIPES, Chunk, RoughSearch, Tile, rough_dtype
from linear_eval.shortlist import central_point
from linear_eval.similarity_keys import (
    decode_keys,
    floats_of,
    ordered_bits,
    similarity_keys,
    sort_keys,
)

if TYPE_CHECKING:
    from torch import Tensor

_NONE = 2**63 - 1  # the key of no row: worse than any


def can_stream(queries: FeatureRows, gallery: FeatureRows, k: int, memory: int) -> bool:
    """Whether `stream_neighbours` applies and is worth its preparations."""
    return (
        gallery.metric != "euclidean"
        and queries.device.type == gallery.device.type == "cpu"
        and len(queries) >= 128
        and min(len(gallery), memory // (4 * gallery.width)) >= max(2**13, 32 * k)
    )


def stream_neighbours(
    queries: FeatureRows, gallery: FeatureRows, k: int, *, exclude_self: bool, memory: int
) -> tuple[Tensor, Tensor]:
    """Keys (Q, k) of the best gallery rows, and whether a query's are final (Q,).

    Those that are not have too many rows that rounding cannot tell apart (duplicates, say).

    Args:
        queries: (Q, D) on the CPU.
        gallery: (G, D) on the CPU, of the same metric, not `euclidean`.
        k: 1 <= k <= G.
        exclude_self: row i is no neighbour of query i.
        memory: bytes for a copy of a tile, and as much again for its products.
    """
    threads = torch.get_num_threads()
    # Whole chunks side by side, each operation on one thread: many operations are too short to be
    # shared, and numpy's never are.
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        with pool:
            dtype = pool.submit(rough_dtype).result()
            center = central_point(gallery, torch.device("cpu"), 4096)
            search = RoughSearch(queries, gallery, k, exclude_self, memory, threads, center, dtype)
            return _stream(search, pool)
    finally:
        torch.set_num_threads(threads)


def _stream(search: RoughSearch, pool: ThreadPoolExecutor) -> tuple[Tensor, Tensor]:
    keys = torch.full((len(search.queries), search.k), _NONE)
    final = torch.ones(len(search.queries), dtype=torch.bool)
    spaces: SimpleQueue[Tensor] = SimpleQueue()  # for products, one per thread
    for _ in range(search.threads):
        spaces.put(
            torch.empty((search.tile_rows + STRIPES) * search.chunk_rows, dtype=search.dtype)
        )

    def improve(tile: Tile, start: int) -> None:
        chunk = search.chunk(start, tile)
        here = slice(start, start + len(chunk.rows))
        space = spaces.get()
        try:
            keys[here], complete = _improve(search, tile, chunk, keys[here], space)
        finally:
            spaces.put(space)
        final[here] &= complete

    for first in range(0, len(search.gallery), search.tile_rows):
        starts = range(0, len(search.queries), search.chunk_rows)
        list(pool.map(functools.partial(improve, search.tile(first, pool)), starts))
    return keys, final


def _improve(
    search: RoughSearch, tile: Tile, chunk: Chunk, best: Tensor, space: Tensor
) -> tuple[Tensor, Tensor]:
    """The keys (b, k) after one more tile, and whether nothing was missed (b,)."""
    size = len(chunk.rows)
    products = space[: len(tile.rough) * size].view(-1, size)
    torch.mm(tile.rough, chunk.rough.T, out=products)
    products[tile.size :] = -torch.inf
    stripes = products.view(STRIPES, -1, size)
    maxima = ordered_bits(stripes.amax(dim=0))
    floor = _floor(search, chunk, maxima, best)
    least = ordered_bits(floor)
    hits = torch.from_numpy(maxima.numpy() >= least.numpy())  # torch takes six times as long
    complete = (hits.sum(dim=0) <= search.most) & floor.isfinite()
    rows, columns, rough = _candidates(stripes, hits & complete, least)
    counts = torch.bincount(columns, minlength=size)
    if counts.amax() > search.most:
        complete &= counts <= search.most
        few = complete[columns]
        rows, columns, rough = rows[few], columns[few], rough[few]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        similarity = _exact_products(tile, chunk, rows, columns)
    # a processor that sums less precisely than it should would show here
    excess = (similarity - chunk.shift[columns] - rough).abs_().sub_(rough.abs() * search.unit)
    complete[columns[excess > chunk.error[columns]]] = False
    index = rows + tile.first
    excluded = (index == chunk.rows[columns]) & search.exclude_self
    keys = similarity_keys(similarity[None], index, excluded[None])[0]
    found = sort_keys(torch.cat([best, _by_query(keys, columns, size)], dim=1))
    return found[:, : search.k], complete


def _floor(search: RoughSearch, chunk: Chunk, maxima: Tensor, best: Tensor) -> Tensor:
    """Rough products (b,) below which no row can be among a query's k best; -inf if unknown.

    Args:
        maxima: ordered bits (S, b) of rough products of as many different rows.
        best: keys (b, k) of earlier tiles.
    """
    known = torch.full_like(chunk.error, -torch.inf)  # lower bound on the k-th exact product
    enough = search.k + search.exclude_self
    if len(maxima) >= enough:
        bits = maxima.T.contiguous().numpy()
        bits.partition(len(maxima) - enough, axis=1)
        kth = floats_of(torch.from_numpy(bits[:, -enough].copy()), search.dtype).double()
        known = kth - search.unit * kth.abs() - chunk.error
    earlier = decode_keys(best[:, -1])[0].double() - chunk.shift
    known = torch.where(best[:, -1] == _NONE, known, torch.maximum(known, earlier))
    # rows whose similarities are equal in float32 count as equal
    floor = known - chunk.error - 2.0**-22 * (known + chunk.shift).abs()
    return floor.to(search.dtype)  # what is no less rounds to no less


def _candidates(stripes: Tensor, hits: Tensor, floor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs whose product (STRIPES, S, b) reaches the floor (b,) bits, where `hits` (S, b) says so.

    Returns:
        Rows of the tile (n,) in rising order, columns (n,) and products (n,) float64.
    """
    num_sets, size = hits.shape
    places = torch.from_numpy(np.flatnonzero(hits.numpy()))
    sets, columns = places // size, places % size
    floors = floor[columns].numpy()
    rows, kept, values = [], [], []
    for number, stripe in enumerate(stripes.view(STRIPES, -1)):
        found = stripe.index_select(0, places)
        keep = torch.from_numpy(np.flatnonzero(ordered_bits(found).numpy() >= floors))
        rows.append(sets.index_select(0, keep) + number * num_sets)
        kept.append(columns.index_select(0, keep))
        values.append(found.index_select(0, keep).double())
    return torch.cat(rows), torch.cat(kept), torch.cat(values)


def _exact_products(tile: Tile, chunk: Chunk, rows: Tensor, columns: Tensor) -> Tensor:
    """Products (n,) float64 of rows of the tile (n,), in rising order, with queries `columns`."""
    result = torch.zeros(len(rows), dtype=torch.float64)
    ends = torch.zeros(tile.size + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(rows, minlength=tile.size), 0, out=ends[1:])
    copy = torch.empty(ROWS_AT_ONCE, chunk.exact.shape[1], dtype=torch.float64)
    for number, block in enumerate(tile.blocks):
        start = number * ROWS_AT_ONCE
        end = ends[start : start + len(block) + 1]
        here = slice(int(end[0]), int(end[-1]))
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


def _by_query(keys: Tensor, columns: Tensor, size: int) -> Tensor:
    """Keys (n,) of queries `columns` (n,) as one row per query, filled up: (size, most of any)."""
    counts = np.bincount(columns.numpy(), minlength=size)
    order = columns.numpy().astype(np.int16).argsort(kind="stable")  # a radix sort
    width = counts.max()
    skipped = np.arange(size) * width - (counts.cumsum() - counts)  # by the rows before
    table = np.full(size * width, _NONE)
    table[np.arange(len(order)) + skipped.repeat(counts)] = keys.numpy()[order]
    return torch.from_numpy(table).view(size, -1)

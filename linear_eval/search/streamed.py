"""Exact nearest neighbours on a CPU in one pass over the gallery: rough products, then exact ones.

The gallery is read tile by tile. Rough products of a tile with a chunk of queries rule out every
row that cannot be among a query's k best so far, whatever the rounding did. The products of the
rest are summed in float64, sorted by gallery row, so that each row is read once for all queries.
Only rows that certainly do not belong are ruled out, so the result is that of ranking everything.

Shapes: Q queries, G gallery rows, D feature width, k neighbours, b queries of a chunk; `candidates`
has the others.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np
import torch

from linear_eval.features.rows import FeatureRows
from linear_eval.search.candidates import (
    NO_KEY,
    Products,
    by_query,
    exact_products,
    find_candidates,
)
from linear_eval.search.rough_tiles import STRIPES, Chunk, RoughSearch, Tile
from linear_eval.search.rounding import rough_dtype
from linear_eval.search.shortlist import central_point
from linear_eval.search.similarity_keys import (
    decode_keys,
    floats_of,
    ordered_bits,
    similarity_keys,
    sort_keys,
)
from linear_eval.system.serial_threads import serial_threads_alone

if TYPE_CHECKING:
    from torch import Tensor


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
    center = central_point(gallery, torch.device("cpu"), 4096)
    with serial_threads_alone(threads) as pool:
        dtype = pool.submit(rough_dtype, queries, gallery, k, center).result()
        search = RoughSearch(queries, gallery, k, exclude_self, memory, threads, center, dtype)
        return _stream(search, pool)


def _stream(search: RoughSearch, pool: ThreadPoolExecutor) -> tuple[Tensor, Tensor]:
    keys = torch.full((len(search.queries), search.k), NO_KEY)
    final = torch.ones(len(search.queries), dtype=torch.bool)
    spaces: SimpleQueue[Tensor] = SimpleQueue()  # for products, one per thread
    for _ in range(search.threads):
        spaces.put(search.space())

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
    rough = _rough_products(search, tile, chunk, space)
    floor = _floor(search, chunk, _similarity(best[:, -1]))
    kth = _kth_product(search, rough)
    if search.dtype != torch.int8:
        sure = (kth - search.unit * kth.abs()) * chunk.step - chunk.error + chunk.shift
        floor = torch.maximum(floor, _floor(search, chunk, sure))
        return _with_candidates(search, tile, chunk, best, rough, floor)
    # The exact products of about k rows raise the floor for the others by half of the margin.
    first = torch.maximum(floor, ordered_bits(kth.to(search.product_dtype)))
    best, complete = _with_candidates(search, tile, chunk, best, rough, first)
    floor = torch.maximum(floor, _floor(search, chunk, _similarity(best[:, -1])))
    best, also = _with_candidates(search, tile, chunk, best, rough, floor, first)
    return best, complete & also


def _rough_products(search: RoughSearch, tile: Tile, chunk: Chunk, space: Tensor) -> Products:
    """In `space`, with the largest of each place looked for while they are in the cache."""
    blocks, rows, size = len(tile.rough), tile.rough.shape[1], len(chunk.rows)
    products = space[: blocks * rows * size].view(blocks, STRIPES, -1, size)
    maxima = torch.empty_like(products[:, 0])
    for number, block in enumerate(products):
        search.multiply(tile, number, chunk, block.view(rows, size))
        torch.amax(block, dim=0, out=maxima[number])
    return Products(products, ordered_bits(maxima.view(-1, size)))


def _kth_product(search: RoughSearch, rough: Products) -> Tensor:
    """A rough product (b,) float64 that k rows other than the query reach; -inf if unknown."""
    enough, (sets, size) = search.k + search.exclude_self, rough.maxima.shape
    if sets < enough:
        return torch.full((size,), -torch.inf, dtype=torch.float64)
    bits = rough.maxima.T.contiguous().numpy()
    bits.partition(sets - enough, axis=1)
    return floats_of(torch.from_numpy(bits[:, -enough].copy()), search.product_dtype).double()


def _floor(search: RoughSearch, chunk: Chunk, known: Tensor) -> Tensor:
    """Bits (b,) of the rough products below which no row has a similarity of `known` (b,)."""
    # rows whose similarities are equal in float32 count as equal
    lowest = known - 2.0**-22 * known.abs() - chunk.shift - chunk.error
    lowest = (lowest / chunk.step).masked_fill_(known == -torch.inf, -torch.inf)
    return ordered_bits(lowest.to(search.product_dtype))  # what is no less rounds to no less


def _similarity(keys: Tensor) -> Tensor:
    """Of keys (b,), float64; -inf for the key of no row."""
    return decode_keys(keys)[0].double().masked_fill_(keys == NO_KEY, -torch.inf)


def _with_candidates(
    search: RoughSearch,
    tile: Tile,
    chunk: Chunk,
    best: Tensor,
    rough: Products,
    floor: Tensor,
    ceiling: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The best keys (b, k), now with rows whose rough products are in [floor, ceiling) too.

    Args:
        best: keys (b, k) so far.
        floor: bits (b,).
        ceiling: bits (b,); None: all from the floor on.

    Returns:
        The keys, and whether none of these rows was left out (b,).
    """
    size = len(chunk.rows)
    hits = rough.maxima.numpy() >= floor.numpy()  # torch takes six times as long, for sums too
    nothing = ordered_bits(torch.tensor(-torch.inf, dtype=search.product_dtype))
    few_enough = torch.from_numpy(hits.sum(axis=0, dtype=np.int32) <= search.most)
    complete = few_enough & (floor > nothing)
    rows, columns, products = find_candidates(rough.all, hits & complete.numpy(), floor, ceiling)
    counts = torch.bincount(columns, minlength=size)
    if counts.amax() > search.most:
        complete &= counts <= search.most
        few = complete[columns]
        rows, columns, products = rows[few], columns[few], products[few]
    similarity = exact_products(tile, chunk, rows, columns)
    # a processor that sums less precisely than it should would show here
    products *= chunk.step[columns]
    excess = (similarity - chunk.shift[columns] - products).abs_()
    excess -= products.abs() * search.unit
    complete[columns[excess > chunk.error[columns]]] = False
    index = rows + tile.first
    excluded = (index == chunk.rows[columns]) & search.exclude_self
    keys = similarity_keys(similarity[None], index, excluded[None])[0]
    found = sort_keys(torch.cat([best, by_query(keys, columns, size)], dim=1))
    return found[:, : search.k], complete

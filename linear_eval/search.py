"""Exact nearest neighbours by inner product: one answer, whichever back end looks for it.

A back end shortlists a few rows more than asked for, in float32. The shortlist is then ranked by
products summed in float64 and rounded to float32, ties by the lower gallery row. Where rounding in
the first stage could have hidden a neighbour (among duplicates, say), the query is ranked against
the whole gallery. So neither back end nor memory budget changes the result, nor does the order of
the gallery but for ties.

Shapes: Q queries, G gallery rows, D feature width, k neighbours, n candidates, b queries at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from linear_eval.errors import InputError
from linear_eval.shortlist import Backend as Backend
from linear_eval.shortlist import Shortlist, open_backend, shortlist
from linear_eval.similarity_keys import best_keys, decode_keys, similarity_keys, sort_keys

_SPARE = 16  # candidates beyond k: near-ties at the k-th place then rarely need the whole gallery
_CACHED = 2**24  # bytes at once on a CPU: large fresh buffers cost three times as much


@dataclass(frozen=True, eq=False)
class _Task:
    queries: Tensor
    gallery: Tensor
    exclude_self: bool
    device: torch.device
    memory: int  # bytes, a quarter of the budget

    @property
    def tile_rows(self) -> int:
        """Gallery rows whose float64 copy fits `memory`."""
        return min(len(self.gallery), max(1, self.memory // (8 * self.gallery.shape[1])))

    def chunks(self, rows: Tensor, keys_per_row: int) -> tuple[Tensor, ...]:
        """Split `rows` so that their keys, with all that makes them (64 bytes), fit 2 `memory`."""
        return torch.split(rows, max(1, self.memory // (32 * keys_per_row)))

    def query_rows(self, rows: Tensor) -> Tensor:
        """Queries `rows` (b,) as (b, D) float64."""
        return self.queries[rows.to(self.queries.device)].to(self.device).float().double()

    def keys(self, products: Tensor, rows: Tensor, index: Tensor) -> Tensor:
        """Keys (b, n) of queries `rows` (b,) with gallery rows `index`, (b, n) or (n,)."""
        return similarity_keys(products, index, self.excluded(rows, index))

    def excluded(self, rows: Tensor, index: Tensor) -> Tensor:
        return (index == rows[:, None]) & self.exclude_self


def nearest_neighbours(
    queries: Tensor,
    gallery: Tensor,
    k: int,
    *,
    backend: Backend = "auto",
    memory_mib: int = 512,
    exclude_self: bool = False,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """The k gallery rows with the largest inner product, best first, ties by the lower row.

    Args:
        queries: (Q, D), any floating type, compared as float32. For cosine, see `unit_rows`.
        gallery: (G, D), likewise.
        k: 1 <= k <= G, or G - 1 with `exclude_self`.
        backend: `faiss` runs on the GPU if `device` is CUDA and faiss sees one.
        memory_mib: bound on the working memory beside inputs, result and 24 (k + 17) bytes a query.
        exclude_self: queries and gallery are the same rows; row i is no neighbour of its own.
        device: where to compute; None: where the queries are.

    Returns:
        Similarities (Q, k) float32 and gallery rows (Q, k) int64, where the queries are.

    Raises:
        InputError: k is out of range, a row is not finite, the widths differ, or faiss was asked
            for and cannot be imported.
    """
    task = _open_task(queries, gallery, exclude_self, memory_mib, device)
    most = len(gallery) - exclude_self
    if not 1 <= k <= most:
        raise InputError(
            f"k: {k} neighbours asked for among {most} other rows, expected 1 to {most}; "
            "choose a smaller k or a larger gallery"
        )
    open_tile = open_backend(backend, task.device)
    size = k + exclude_self + _SPARE
    keys = torch.empty(len(queries), k, dtype=torch.int64, device=task.device)
    rest = torch.arange(len(queries), device=task.device)
    if 4 * size < len(gallery):  # a longer shortlist would cost more than ranking everything
        candidates = shortlist(
            queries, gallery, size, open_tile=open_tile, device=task.device, memory=task.memory
        )
        keys, complete = _rank_shortlist(task, candidates, k)
        rest = rest[~complete]
    for rows in task.chunks(rest, task.tile_rows):
        keys[rows] = _rank_gallery(task, rows, k)
    similarity, index = decode_keys(keys)
    return similarity.to(queries.device), index.to(queries.device)


def leave_one_out_rankings(
    features: Tensor, *, memory_mib: int = 512, device: torch.device | str | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """All other rows from the most to the least similar, for a chunk of rows at a time.

    Args:
        features: (G, D), G >= 2. Types, ties and errors are those of `nearest_neighbours`.
        memory_mib: bound on the working memory beside the input; the yielded chunk is part of it.
        device: where to compute; None: where the features are.

    Yields:
        Rows (b,) and their rankings (b, G - 1), both int64, where the features are.
    """
    task = _open_task(features, features, True, memory_mib, device)
    for rows, ranking in _rankings(task):
        yield rows, ranking[:, :-1]  # the last is the row itself


def gallery_rankings(
    queries: Tensor,
    gallery: Tensor,
    *,
    memory_mib: int = 512,
    device: torch.device | str | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The whole gallery from the most to the least similar, for a chunk of queries at a time.

    Yields:
        Query rows (b,) and their rankings (b, G); for the rest see `leave_one_out_rankings`.
    """
    yield from _rankings(_open_task(queries, gallery, False, memory_mib, device))


def _rankings(task: _Task) -> Iterator[tuple[Tensor, Tensor]]:
    where = task.queries.device
    for rows in task.chunks(torch.arange(len(task.queries), device=task.device), len(task.gallery)):
        keys = sort_keys(torch.cat(list(_gallery_keys(task, rows)), dim=1))
        _, index = decode_keys(keys)
        yield rows.to(where), index.to(where)


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


def require_finite(features: Tensor, name: str) -> None:
    """Refuse NaN and infinite entries of features (N, D).

    Raises:
        InputError: with `name`, the number of rows concerned and the first of them.
    """
    chunks = torch.split(features, max(1, 2**20 // max(1, features.shape[1])))
    bad = torch.cat([(~chunk.isfinite().all(dim=1)) for chunk in chunks]).nonzero()[:, 0]
    if len(bad):
        raise InputError(
            f"{name}: {len(bad)} of {len(features)} rows hold NaN or infinite values, first in row "
            f"{int(bad[0])}, expected finite features; look at the backbone and at that image"
        )


def _open_task(
    queries: Tensor,
    gallery: Tensor,
    exclude_self: bool,
    memory_mib: int,
    device: torch.device | str | None,
) -> _Task:
    for name, rows in (("queries", queries), ("gallery", gallery)):
        if rows.dim() != 2 or not rows.numel():
            raise InputError(f"{name}: expected rows of features, got shape {tuple(rows.shape)}")
        require_finite(rows, name)
    if queries.shape[1] != gallery.shape[1]:
        raise InputError(
            f"queries: {queries.shape[1]} features a row, expected {gallery.shape[1]} as in the "
            "gallery; extract both with one backbone"
        )
    if memory_mib < 1:
        raise InputError(f"memory_mib: must be >= 1, got {memory_mib}")
    return _Task(
        queries=queries,
        gallery=gallery,
        exclude_self=exclude_self,
        device=queries.device if device is None else torch.device(device),
        memory=memory_mib * 2**18,
    )


def _rank_shortlist(task: _Task, candidates: Shortlist, k: int) -> tuple[Tensor, Tensor]:
    """Keys (Q, k) of the best candidates, and whether no other row can belong to them (Q,)."""
    bytes_per_query = 12 * candidates.index.shape[1] * task.gallery.shape[1]
    everyone = torch.arange(len(task.queries), device=task.device)
    at_once = min(task.memory, _CACHED) if task.device.type == "cpu" else task.memory
    keys, complete = [], []
    for rows in torch.split(everyone, max(1, at_once // bytes_per_query)):
        index, products = candidates.index[rows], candidates.products[rows]
        exact = _exact_products(task, rows, index)
        keys.append(best_keys(task.keys(exact, rows, index), k))
        # Matrix products of reduced precision (TF32, bfloat16) err by more than float32's bound;
        # the errors seen among the candidates tell.
        shift = exact - products
        seen = 4 * (shift.amax(dim=1) - shift.amin(dim=1)).amax()
        error = torch.maximum(candidates.error[rows], seen) + 2.0**-24 * exact.abs().amax(dim=1)
        others = products.masked_fill(task.excluded(rows, index), -torch.inf)
        complete.append(products.amin(dim=1) < others.topk(k).values[:, -1] - 2 * error)
    return torch.cat(keys), torch.cat(complete)


def _exact_products(task: _Task, rows: Tensor, index: Tensor) -> Tensor:
    """Products of queries `rows` (b,) with gallery rows `index` (b, n): (b, n) float64."""
    neighbours = task.gallery[index.flatten().to(task.gallery.device)].to(task.device)
    neighbours = neighbours.float().double().view(*index.shape, -1)
    return torch.bmm(neighbours, task.query_rows(rows)[:, :, None])[:, :, 0]


def _rank_gallery(task: _Task, rows: Tensor, k: int) -> Tensor:
    """Keys (b, k) of the best gallery rows for queries `rows` (b,)."""
    best = torch.empty(len(rows), 0, dtype=torch.int64, device=task.device)
    for keys in _gallery_keys(task, rows):
        best = best_keys(torch.cat([best, best_keys(keys, k)], dim=1), k)
    return best


def _gallery_keys(task: _Task, rows: Tensor) -> Iterator[Tensor]:
    """Keys (b, n) of queries `rows` (b,) with the gallery, n of its rows at a time."""
    queries = task.query_rows(rows)
    for start in range(0, len(task.gallery), task.tile_rows):
        tile = task.gallery[start : start + task.tile_rows].to(task.device).float().double()
        index = torch.arange(start, start + len(tile), device=task.device)
        yield task.keys(queries @ tile.T, rows, index)

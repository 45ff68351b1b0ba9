"""Exact nearest neighbours: one answer, whichever back end looks for it.

A back end shortlists a few rows more than asked for, in float32. The shortlist is then ranked by
similarities summed in float64 and rounded to float32, ties by the lower gallery row. Where rounding
in the first stage could have hidden a neighbour (among duplicates, say), the query is ranked
against the whole gallery. So neither back end nor memory budget changes the result, nor does the
order of the gallery but for ties.

The similarity is the inner product (of unit rows, for cosine), or minus the squared distance.

Shapes: Q queries, G gallery rows, D feature width, k neighbours, n candidates, b queries at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from linear_eval.features.rows import Metric, feature_rows
from linear_eval.search.shortlist import Backend as Backend
from linear_eval.search.shortlist import Shortlist, open_backend, shortlist
from linear_eval.search.similarity_keys import best_keys, decode_keys, sort_keys
from linear_eval.search.streamed import can_stream, stream_neighbours
from linear_eval.search.task import SearchTask, open_task
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_SPARE = 16  # candidates beyond k: near-ties at the k-th place then rarely need the whole gallery
_CACHED = 2**24  # bytes at once on a CPU: large fresh buffers cost three times as much


def nearest_neighbours(
    queries: Tensor,
    gallery: Tensor | Sequence[Tensor],
    k: int,
    *,
    metric: Metric = "inner",
    backend: Backend = "auto",
    memory_mib: int = 512,
    exclude_self: bool = False,
) -> tuple[Tensor, Tensor]:
    """The k most similar gallery rows, best first, ties by the lower row.

    Args:
        queries: (Q, D), any floating type, compared as float32; the search runs where they are.
        gallery: (G, D), likewise, or several such tables, one below the other; they may be larger
            than the memory if they are memory-mapped.
        k: 1 <= k <= G, or G - 1 with `exclude_self`.
        metric: `cosine` takes rows of any length; with `euclidean`, similarity is minus the squared
            distance.
        backend: `faiss` runs on the GPU if the queries are there and faiss sees one.
        memory_mib: bound on the working memory beside inputs, result and 24 (k + 17) bytes a query.
        exclude_self: queries and gallery are the same rows; row i is no neighbour of its own.

    Returns:
        Similarities (Q, k) float32 and gallery rows (Q, k) int64, where the queries are.

    Raises:
        InputError: k is out of range, a row is not finite, the widths differ, or faiss was asked
            for and cannot be imported.
    """
    task = open_task(
        feature_rows(queries, metric, name="queries"),
        feature_rows(gallery, metric, name="gallery"),
        exclude_self,
        memory_mib,
    )
    most = len(task.gallery) - exclude_self
    if not 1 <= k <= most:
        raise InputError(
            f"k: {k} neighbours asked for among {most} other rows, expected 1 to {most}; "
            "choose a smaller k or a larger gallery"
        )
    if backend != "faiss" and can_stream(task.queries, task.gallery, k, task.memory):
        keys, complete = stream_neighbours(
            task.queries, task.gallery, k, exclude_self=exclude_self, memory=task.memory
        )
        return decode_keys(_rank_incomplete(task, keys, complete))
    open_tile = open_backend(backend, task.device)
    size = k + exclude_self + _SPARE
    keys = torch.empty(len(queries), k, dtype=torch.int64, device=task.device)
    complete = torch.zeros(len(queries), dtype=torch.bool, device=task.device)
    if 4 * size < len(task.gallery):  # a longer shortlist would cost more than ranking everything
        candidates = shortlist(
            task.queries,
            task.gallery,
            size,
            open_tile=open_tile,
            device=task.device,
            memory=task.memory,
        )
        keys, complete = _rank_shortlist(task, candidates, k)
    return decode_keys(_rank_incomplete(task, keys, complete))


def leave_one_out_rankings(
    features: Tensor,
    *,
    metric: Metric = "inner",
    memory_mib: int = 512,
    asking: range | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """All other rows from the most to the least similar, for a chunk of rows at a time.

    Args:
        features: (G, D), G >= 2. Types, ties and errors are those of `nearest_neighbours`.
        metric: likewise.
        memory_mib: bound on the working memory beside the input; the yielded chunk is part of it.
        asking: the rows that are ranked for; None: all.

    Yields:
        Rows (b,) and their rankings (b, G - 1), both int64, where the features are.
    """
    table = feature_rows(features, metric)
    for rows, ranking in _rankings(open_task(table, table, True, memory_mib), asking):
        yield rows, ranking[:, :-1]  # the last is the row itself


def gallery_rankings(
    queries: Tensor,
    gallery: Tensor | Sequence[Tensor],
    *,
    metric: Metric = "inner",
    memory_mib: int = 512,
    asking: range | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The whole gallery from the most to the least similar, for a chunk of queries at a time.

    Yields:
        Query rows (b,) and their rankings (b, G); for the rest see `leave_one_out_rankings`.
    """
    yield from _rankings(
        open_task(
            feature_rows(queries, metric, name="queries"),
            feature_rows(gallery, metric, name="gallery"),
            False,
            memory_mib,
        ),
        asking,
    )


def _rankings(task: SearchTask, asking: range | None) -> Iterator[tuple[Tensor, Tensor]]:
    asking = range(len(task.queries)) if asking is None else asking
    everyone = torch.arange(asking.start, asking.stop, device=task.device)
    for rows in task.chunks(everyone, len(task.gallery)) if asking else ():
        keys = sort_keys(torch.cat(list(_gallery_keys(task, rows)), dim=1))
        _, index = decode_keys(keys)
        yield rows, index


def _rank_incomplete(task: SearchTask, keys: Tensor, complete: Tensor) -> Tensor:
    """The keys (Q, k), with those of queries that are not complete (Q,) found anew."""
    rows = (~complete).nonzero()[:, 0]
    for chunk in task.chunks(rows, task.tile_rows) if len(rows) else ():
        keys[chunk] = _rank_gallery(task, chunk, keys.shape[1])
    return keys


def _rank_shortlist(task: SearchTask, candidates: Shortlist, k: int) -> tuple[Tensor, Tensor]:
    """Keys (Q, k) of the best candidates, and whether no other row can belong to them (Q,)."""
    bytes_per_query = 12 * candidates.index.shape[1] * task.gallery.width
    everyone = torch.arange(len(task.queries), device=task.device)
    at_once = min(task.memory, _CACHED) if task.device.type == "cpu" else task.memory
    keys, complete = [], []
    for rows in torch.split(everyone, max(1, at_once // bytes_per_query)):
        index, products = candidates.index[rows], candidates.products[rows]
        exact = _exact_similarities(task, rows, index)
        keys.append(best_keys(task.keys(exact, rows, index), k))
        # Matrix products of reduced precision (TF32, bfloat16) err by more than float32's bound;
        # the errors seen among the candidates tell.
        shift = exact - products
        seen = 4 * (shift.amax(dim=1) - shift.amin(dim=1)).amax()
        error = torch.maximum(candidates.error[rows], seen) + 2.0**-24 * exact.abs().amax(dim=1)
        others = products.masked_fill(task.excluded(rows, index), -torch.inf)
        complete.append(products.amin(dim=1) < others.topk(k).values[:, -1] - 2 * error)
    return torch.cat(keys), torch.cat(complete)


def _exact_similarities(task: SearchTask, rows: Tensor, index: Tensor) -> Tensor:
    """Of queries `rows` (b,) with gallery rows `index` (b, n): (b, n) float64."""
    items = task.gallery.take(index.flatten(), task.device).double().view(*index.shape, -1)
    return task.similarities(task.query_rows(rows), items)


def _rank_gallery(task: SearchTask, rows: Tensor, k: int) -> Tensor:
    """Keys (b, k) of the best gallery rows for queries `rows` (b,)."""
    best = torch.empty(len(rows), 0, dtype=torch.int64, device=task.device)
    for keys in _gallery_keys(task, rows):
        best = best_keys(torch.cat([best, best_keys(keys, k)], dim=1), k)
    return best


def _gallery_keys(task: SearchTask, rows: Tensor) -> Iterator[Tensor]:
    """Keys (b, n) of queries `rows` (b,) with the gallery, n of its rows at a time."""
    queries = task.query_rows(rows)
    for start in range(0, len(task.gallery), task.tile_rows):
        tile = task.gallery.between(start, start + task.tile_rows, task.device).double()
        index = torch.arange(start, start + len(tile), device=task.device)
        yield task.keys(task.similarities(queries, tile), rows, index)

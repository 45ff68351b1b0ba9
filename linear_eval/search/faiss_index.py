"""faiss indexes of unit rows: exact (flat) and approximate (ivf, hnsw), and what the latter miss.

Shapes: Q queries, G indexed rows, D feature width, k neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from linear_eval.features.rows import unit_rows
from linear_eval.search.exact import nearest_neighbours
from linear_eval.search.faiss_library import open_faiss
from linear_eval.system.errors import InputError
from linear_eval.system.printable import one_line

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["flat", "ivf", "hnsw"]

RECALL_AT = 10
_RECALL_SAMPLE = 500  # rows asked: about +-1 point
_NUM_PROBES = 32  # ivf: cells that a query visits
_ROWS_PER_CELL = 39  # ivf: with fewer, faiss warns that cells are poorly placed
_NUM_LINKS, _BUILD_LIST, _SEARCH_LIST = 32, 200, 128  # hnsw: per row; candidates kept


def build_index(rows: Tensor, kind: Kind) -> Any:
    """Make an index that finds rows by inner product.

    Args:
        rows: (G, D) float32 of unit length, on the CPU.
        kind: flat compares with every row; ivf with those of the nearest of about 4 sqrt(G) cells;
            hnsw follows links between near rows.
    """
    faiss = open_faiss()
    count, width = rows.shape
    index: Any
    if kind == "flat":
        index = faiss.IndexFlatIP(width)
    elif kind == "ivf":
        cells = max(1, min(round(4 * math.sqrt(count)), count // _ROWS_PER_CELL))
        flat = faiss.IndexFlatIP(width)
        index = faiss.IndexIVFFlat(flat, width, cells, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = min(_NUM_PROBES, cells)
        index.train(rows.numpy())
    else:
        index = faiss.IndexHNSWFlat(width, _NUM_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = _BUILD_LIST
        index.hnsw.efSearch = _SEARCH_LIST
    index.add(rows.numpy())
    return index


def search_index(index: Any, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Scores (Q, k) float32 and rows (Q, k) int64, best first; row -1: no further one was found.

    Args:
        index: from `build_index`.
        queries: (Q, D) float32 of unit length, on the CPU.
        k: 1 <= k <= G.
    """
    scores, rows = index.search(queries.numpy(), k)
    return torch.from_numpy(scores), torch.from_numpy(rows)


def approximate_neighbours(
    queries: Tensor, gallery: Sequence[Tensor], k: int, *, kind: Kind
) -> tuple[Tensor, Tensor, float]:
    """Neighbours by cosine that an index of the gallery finds, and how many it misses.

    Args:
        queries: (Q, D), any length.
        gallery: tables (G_i, D), one below the other; copied into the index.
        k: 1 <= k <= G.
        kind: of the index.

    Returns:
        Similarities (Q, k) float32, rows (Q, k) int64 (-1: no further one was found), and the share
        in [0, 1] of the exact k neighbours that were found, over a sample of 500 queries. Rows as
        similar as the k-th count as neighbours.
    """
    rows = torch.cat([unit_rows(part) for part in gallery]).cpu()
    asking = unit_rows(queries).cpu()
    index = build_index(rows, kind)
    similarity, found = search_index(index, asking, k)
    sample = torch.linspace(0, len(asking) - 1, min(_RECALL_SAMPLE, len(asking))).round().long()
    exact, _ = nearest_neighbours(asking[sample], rows, k)
    near = (similarity[sample] >= exact[:, -1:] - 1e-5) & (found[sample] >= 0)
    return similarity, found, float(near.double().mean())


def measure_recall(index: Any, rows: Tensor) -> float | None:
    """How much of the 10 nearest other rows the index finds, over a sample of rows, in [0, 1].

    A row as similar as the tenth counts as one of them. None: fewer than two rows are indexed.

    Args:
        index: of `rows`.
        rows: (G, D) float32 of unit length, on the CPU.
    """
    k = min(RECALL_AT, len(rows) - 1)
    if k < 1:
        return None
    asking = torch.linspace(0, len(rows) - 1, min(_RECALL_SAMPLE, len(rows))).round().long()
    exact, _ = nearest_neighbours(rows[asking], rows, k + 1)
    scores, found = search_index(index, rows[asking], k + 1)
    # the row itself is among the k + 1 nearest, so the last of these is the k-th other one
    near = scores >= exact[:, -1:] - 1e-5  # both are rounded float32 sums
    others = (found >= 0) & (found != asking[:, None])
    return float((near & others).sum(dim=1).clamp(max=k).double().mean() / k)


def write_faiss(index: Any, path: Path) -> None:
    """Write an index to a file.

    Raises:
        OSError: it cannot be written. Faiss's own files say that in their own words, and not at all
            where the disk is full at the end.
    """
    faiss = open_faiss()
    with path.open("wb") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))


def read_faiss(path: Path) -> Any:
    """Read an index from a file.

    Raises:
        InputError: it is no index.
    """
    try:
        return open_faiss().read_index(str(path))
    except RuntimeError as error:
        raise InputError(
            f"{path}: is no faiss index ({one_line(str(error))[-120:]}), expected one that "
            "`linear-eval index` wrote; make it again"
        ) from error

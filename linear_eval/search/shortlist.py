"""Candidates for a nearest-neighbour search, by fast and inexact products: torch and faiss.

Shapes: Q queries, G gallery rows, D feature width, n candidates a query, T rows of a gallery tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from linear_eval.features.rows import FeatureRows
from linear_eval.search.faiss_library import open_faiss

if TYPE_CHECKING:
    from torch import Tensor

Backend = Literal["auto", "torch", "faiss"]
"""`auto` is torch on every platform.

Its search beats faiss's flat index on a CPU (`bench/README.md`), and importing faiss costs up to a
second and brings a second OpenMP runtime into the process, which on macOS may abort it.
"""

_FAISS_GPU_MAX_CANDIDATES = 2048

TileSearch = Callable[["Tensor", int], tuple["Tensor", "Tensor"]]
"""Queries (b, D) float32 and n -> the n best rows of a tile: products (b, n), tile rows (b, n)."""


@dataclass(frozen=True, eq=False)
class Shortlist:
    """Candidates of every query, in no promised order.

    Attributes:
        products: (Q, n) float32, all of a query's shifted by one unknown constant.
        index: (Q, n) gallery rows.
        error: (Q,) bound on the error of a product, if they are multiplied in full float32.
    """

    products: Tensor
    index: Tensor
    error: Tensor


def open_backend(backend: Backend, device: torch.device) -> Callable[[Tensor], TileSearch]:
    """A function that makes a gallery tile (T, D) searchable.

    Raises:
        InputError: `faiss` is missing or broken.
    """
    return _faiss_backend(device) if backend == "faiss" else _torch_tile


def shortlist(
    queries: FeatureRows,
    gallery: FeatureRows,
    size: int,
    *,
    open_tile: Callable[[Tensor], TileSearch],
    device: torch.device,
    memory: int,
) -> Shortlist:
    """The `size` rows per query with the largest products, as far as float32 can tell.

    The gallery is centred first. That shifts a query's products by a constant, so it keeps their
    order, and it shrinks the errors where all rows point one way, as a random backbone's do.
    Minus the squared distance is a product too, but for a constant of the query: that of
    (2 (q - c), 1) with (g - c, -|g - c|^2).

    Args:
        queries: (Q, D).
        gallery: (G, D).
        size: n, 1 <= n <= G.
        open_tile: from `open_backend`.
        device: where to compute.
        memory: bytes for a copy of a gallery tile, and as much again for the products with it.
    """
    tile_rows = min(len(gallery), max(1, memory // (4 * (gallery.width + 1))))
    queries_at_once = max(1, memory // (4 * tile_rows))
    center = central_point(gallery, device, min(4096, tile_rows))
    longest = torch.zeros((), device=device)
    lengths: dict[int, Tensor] = {}
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for start in range(0, len(gallery), tile_rows):
        tile = gallery.between(start, start + tile_rows, device) - center
        if gallery.metric == "euclidean":
            tile = torch.cat([tile, -tile.square().sum(dim=1, keepdim=True)], dim=1)
        longest = torch.maximum(longest, torch.linalg.vector_norm(tile, dim=1).amax())
        search = open_tile(tile)
        for first in range(0, len(queries), queries_at_once):
            part = queries.between(first, first + queries_at_once, device)
            if queries.metric == "euclidean":
                part = torch.cat([(part - center).mul_(2), torch.ones_like(part[:, :1])], dim=1)
            lengths[first] = torch.linalg.vector_norm(part, dim=1)
            products, index = search(part, min(size, len(tile)))
            pair = products, index + start
            found[first] = _merge(found[first], pair, size) if first in found else pair
    # worst case of a float32 sum of D products with rounded differences, whatever its order
    rounding = (gallery.width + 4) * 2.0**-24 * (2 if gallery.metric == "euclidean" else 1)
    return Shortlist(
        products=torch.cat([products for products, _ in found.values()]),
        index=torch.cat([index for _, index in found.values()]),
        error=rounding * torch.cat(list(lengths.values())) * longest,
    )


def central_point(gallery: FeatureRows, device: torch.device, sample_size: int) -> Tensor:
    """A point (D,) amid the rows: any will do, so a sample is averaged."""
    every = math.ceil(len(gallery) / sample_size)
    sample = torch.arange(0, len(gallery), every)
    return gallery.take(sample, device).mean(dim=0)


def _merge(
    left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor], size: int
) -> tuple[Tensor, Tensor]:
    products = torch.cat([left[0], right[0]], dim=1)
    products, order = products.topk(min(size, products.shape[1]))
    return products, torch.cat([left[1], right[1]], dim=1).gather(1, order)


def _torch_tile(tile: Tensor) -> TileSearch:
    def search(queries: Tensor, n: int) -> tuple[Tensor, Tensor]:
        products, index = (queries @ tile.T).topk(n)
        return products, index

    return search


def _faiss_backend(device: torch.device) -> Callable[[Tensor], TileSearch]:
    faiss = open_faiss()
    num_gpus, flat_index = faiss.get_num_gpus(), faiss.IndexFlatIP
    # the only honest test: without a GPU, faiss's GPU resources open without complaint
    on_gpu = device.type == "cuda" and num_gpus > 0

    def open_tile(tile: Tensor) -> TileSearch:
        cpu_index: Any = flat_index(tile.shape[1])
        cpu_index.add(tile.cpu().numpy())
        gpu_index = None
        if on_gpu:
            resources = faiss.StandardGpuResources()
            gpu_index = faiss.index_cpu_to_gpu(resources, device.index or 0, cpu_index)

        def search(queries: Tensor, n: int) -> tuple[Tensor, Tensor]:
            index = gpu_index if gpu_index and n <= _FAISS_GPU_MAX_CANDIDATES else cpu_index
            products, rows = index.search(queries.cpu().numpy(), n)
            return torch.from_numpy(products).to(device), torch.from_numpy(rows).to(device)

        return search

    return open_tile

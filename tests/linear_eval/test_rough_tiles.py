from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from linear_eval.feature_rows import feature_rows
from linear_eval.rough_tiles import STRIPES, RoughSearch, rough_dtype


def search_of(dtype: torch.dtype, memory: int = 2**20) -> RoughSearch:
    generator = torch.Generator().manual_seed(0)
    gallery = feature_rows(torch.randn(1003, 24, generator=generator) + 3)
    queries = feature_rows(torch.randn(40, 24, generator=generator) + 3)
    return RoughSearch(queries, gallery, 5, False, memory, 2, torch.full((24,), 3.0), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rough_products_differ_from_the_exact_ones_by_the_bound_at_most(dtype: torch.dtype) -> None:
    search = search_of(dtype)
    with ThreadPoolExecutor(2) as pool:
        tile = search.tile(0, pool)
    chunk = search.chunk(0, tile)
    assert len(tile.rough) % STRIPES == 0
    rough = chunk.rough.float() @ tile.rough[: tile.size].float().T
    error = (
        (chunk.exact @ torch.cat(tile.blocks).double().T - chunk.shift[:, None] - rough)
        .abs()
        .amax(dim=1)
    )
    assert (error <= chunk.error).all()
    assert (chunk.error < 100 * error).all()  # and the bound is worth something


def test_the_last_tile_is_what_is_left() -> None:
    search = search_of(torch.float32, memory=4 * 24 * 500)
    with ThreadPoolExecutor(2) as pool:
        tiles = [search.tile(first, pool) for first in range(0, 1003, search.tile_rows)]
    assert [tile.size for tile in tiles] == [500, 500, 3]
    assert torch.equal(
        torch.cat([block for tile in tiles for block in tile.blocks]), search.gallery.parts[0]
    )


def test_products_of_a_chunk_fit_the_memory() -> None:
    search = search_of(torch.float32, memory=4 * 24 * 500)
    rows = search.threads * search.chunk_rows * search.tile_rows
    assert search.chunk_rows >= 1
    assert rows * search.dtype.itemsize <= max(search.memory, 2 * 4 * search.tile_rows)


@pytest.mark.parametrize(
    ("queries", "threads", "size"), [(40, 2, 32), (120, 2, 32), (96, 2, 48), (1000, 2, 59)]
)
def test_every_thread_gets_as_many_chunks_of_about_one_size(
    queries: int, threads: int, size: int
) -> None:
    search = replace(search_of(torch.float32), threads=threads)  # memory for 118 queries
    asked = feature_rows(torch.ones(queries, 24))
    assert replace(search, queries=asked).chunk_rows == size


def test_the_type_of_rough_products_is_measured_once() -> None:
    assert rough_dtype() in (torch.float32, torch.bfloat16)
    assert rough_dtype() is rough_dtype()

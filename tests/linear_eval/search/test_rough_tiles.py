from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from linear_eval.features.rows import feature_rows
from linear_eval.search import rough_tiles
from linear_eval.search.rough_tiles import STRIPES, RoughSearch

DTYPES = (torch.float32, torch.bfloat16, torch.int8)


def search_of(dtype: torch.dtype, memory: int = 2**20) -> RoughSearch:
    generator = torch.Generator().manual_seed(0)
    gallery = feature_rows(torch.randn(1003, 24, generator=generator) + 3)
    queries = feature_rows(torch.randn(40, 24, generator=generator) + 3)
    return RoughSearch(queries, gallery, 5, False, memory, 2, torch.full((24,), 3.0), dtype)


@pytest.mark.parametrize("rows_of_a_block", [2048, 100])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rough_products_differ_from_the_exact_ones_by_the_bound_at_most(
    dtype: torch.dtype, rows_of_a_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rough_tiles, "BLOCK_ROWS", rows_of_a_block)
    search = search_of(dtype)
    with ThreadPoolExecutor(2) as pool:
        tile = search.tile(0, pool)
    chunk = search.chunk(0, tile)
    found = search.space()[: tile.padded.numel() * len(chunk.rows)].view(*tile.padded.shape, -1)
    for number, block in enumerate(found):
        search.multiply(tile, number, chunk, block)
    assert (found[tile.padded] == -torch.inf).all()
    # block i holds rows [i S, (i + 1) S) of every stripe
    by_row = found.view(len(found), STRIPES, -1, len(chunk.rows)).transpose(0, 1)
    rough = by_row.reshape(-1, len(chunk.rows))[: tile.size].T.double() * chunk.step[:, None]
    exact = chunk.exact @ torch.cat(tile.exact).double().T - chunk.shift[:, None]
    error = (exact - rough).abs()
    assert ((error - search.unit * rough.abs()).amax(dim=1) <= chunk.error).all()
    assert (chunk.error < 100 * error.amax(dim=1)).all()  # and the bound is worth something


def test_the_last_tile_is_what_is_left() -> None:
    search = search_of(torch.float32, memory=4 * 24 * 500)
    with ThreadPoolExecutor(2) as pool:
        tiles = [search.tile(first, pool) for first in range(0, 1003, search.tile_rows)]
    assert [tile.size for tile in tiles] == [500, 500, 3]
    assert [int((~tile.padded).sum()) for tile in tiles] == [500, 500, 3]
    assert torch.equal(
        torch.cat([block for tile in tiles for block in tile.exact]), search.gallery.parts[0]
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

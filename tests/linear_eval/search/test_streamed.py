from typing import Any

import pytest
import torch
from torch import Tensor

from linear_eval.features.rows import FeatureRows, Metric, feature_rows, unit_rows
from linear_eval.search import rough_tiles
from linear_eval.search import streamed as streamed_search
from linear_eval.search.exact import nearest_neighbours
from linear_eval.search.rounding import fast_product
from linear_eval.search.similarity_keys import decode_keys, similarity_keys, sort_keys
from linear_eval.search.streamed import can_stream, stream_neighbours

ROWS, WIDTH, K = 5000, 24, 7
WHOLE = 4 * ROWS * WIDTH  # bytes that hold the gallery as one tile
DTYPES = (torch.float32, torch.bfloat16, torch.int8)


def normal(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed))


def ranked(queries: FeatureRows, gallery: FeatureRows, exclude_self: bool) -> Tensor:
    """Keys (Q, K) from all products in float64."""
    cpu = torch.device("cpu")
    left, right = (rows.between(0, len(rows), cpu).double() for rows in (queries, gallery))
    rows = torch.arange(len(gallery))
    own = (rows == torch.arange(len(queries))[:, None]) & exclude_self
    return sort_keys(similarity_keys(left @ right.T, rows, own))[:, :K]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("memory", [WHOLE, WHOLE // 3])
@pytest.mark.parametrize("metric", ["inner", "cosine"])
@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("offset", [0.0, 10.0])
def test_final_keys_are_those_of_ranking_everything(
    dtype: torch.dtype,
    memory: int,
    metric: Metric,
    exclude_self: bool,
    offset: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streamed_search, "rough_dtype", lambda *_: dtype)
    rows = normal(ROWS, seed=0) + offset
    rows[4000:4100] = rows[:100]  # ties, in another tile
    gallery = feature_rows([rows[:1], rows[1:3000].half(), rows[3000:]], metric)
    asked = gallery.between(0, 300, rows.device) if exclude_self else normal(300, seed=1) + offset
    queries = feature_rows(asked, metric)
    keys, final = stream_neighbours(queries, gallery, K, exclude_self=exclude_self, memory=memory)
    assert torch.equal(keys[final], ranked(queries, gallery, exclude_self)[final])
    assert final.double().mean() > 0.98


def test_rows_that_differ_by_less_than_rounding_leave_a_query_unfinished() -> None:
    rows = normal(ROWS, seed=0)
    rows[100:4000] = rows[100]
    queries = torch.cat([rows[:50], rows[100:101]])
    table = feature_rows(rows)
    keys, final = stream_neighbours(
        feature_rows(queries), table, K, exclude_self=False, memory=WHOLE
    )
    assert not final[50]
    assert torch.equal(keys[final], ranked(feature_rows(queries), table, False)[final])
    assert final[:50].any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_machine_that_multiplies_badly_is_found_out(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed_search, "rough_dtype", lambda *_: dtype)
    rows, queries = feature_rows(normal(ROWS, seed=0)), feature_rows(normal(200, seed=1))
    multiply = fast_product(dtype)

    def bad(left: Tensor, right: Tensor, out: Tensor) -> None:
        multiply(left, right, out)
        out.mul_(5).div_(4, rounding_mode="trunc" if dtype == torch.int8 else None)

    monkeypatch.setattr(rough_tiles, "fast_product", lambda _: bad)
    _, final = stream_neighbours(queries, rows, K, exclude_self=False, memory=WHOLE)
    assert not final.any()


def test_the_search_of_a_large_gallery_streams_it_and_ranks_what_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gallery, queries = unit_rows(normal(9000, seed=0)), unit_rows(normal(200, seed=1))
    gallery[1000:6000] = gallery[1000]
    queries[3] = gallery[1000]
    streamed: list[Tensor] = []

    def spy(*args: Any, **keywords: Any) -> tuple[Tensor, Tensor]:
        keys, final = stream_neighbours(*args, **keywords)
        streamed.append(final)
        return keys, final

    monkeypatch.setattr("linear_eval.search.exact.stream_neighbours", spy)
    similarity, index = nearest_neighbours(queries, gallery, K)
    assert not streamed[0][3]
    expected = decode_keys(ranked(feature_rows(queries), feature_rows(gallery), False))
    assert torch.equal(similarity, expected[0])
    assert torch.equal(index, expected[1])


def test_threads_are_left_as_they_were_and_change_nothing() -> None:
    rows, queries = feature_rows(normal(ROWS, seed=0)), feature_rows(normal(400, seed=1))
    threads = torch.get_num_threads()
    found = []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            found.append(stream_neighbours(queries, rows, K, exclude_self=True, memory=WHOLE)[0])
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])


def test_euclidean_small_and_cramped_searches_do_not_stream() -> None:
    queries, gallery = feature_rows(normal(200, seed=0)), feature_rows(normal(9000, seed=1))
    assert can_stream(queries, gallery, K, 2**20)
    assert not can_stream(queries, gallery, K, 2**19)
    assert not can_stream(queries, gallery, 300, 2**20)
    assert not can_stream(feature_rows(normal(9, seed=0)), gallery, K, 2**20)
    assert not can_stream(queries, feature_rows(normal(2000, seed=1)), K, 2**20)
    far = feature_rows(normal(9000, seed=1), "euclidean")
    assert not can_stream(queries, far, K, 2**20)

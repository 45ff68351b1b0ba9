import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from linear_eval.features.rows import Metric, unit_rows
from linear_eval.search import exact as search
from linear_eval.search.exact import (
    Backend,
    gallery_rankings,
    leave_one_out_rankings,
    nearest_neighbours,
)
from linear_eval.system.errors import InputError

BACKENDS: tuple[Backend, ...] = ("torch", "faiss")


def oracle(queries: Tensor, gallery: Tensor, k: int, exclude_self: bool) -> tuple[Any, Any]:
    """Loop over pairs; sort by falling similarity, then by row."""
    similarities, rows = [], []
    for i, query in enumerate(queries.double().tolist()):
        found = []
        for j, item in enumerate(gallery.double().tolist()):
            if not (exclude_self and i == j):
                similarity = sum(a * b for a, b in zip(query, item, strict=True))
                found.append((-float(np.float32(similarity)), j))
        found.sort()
        similarities.append([-negative for negative, _ in found[:k]])
        rows.append([row for _, row in found[:k]])
    return similarities, rows


def integers(rows: int, width: int, seed: int, high: int = 2) -> Tensor:
    """Small integers: exact products, many ties, duplicates and zero rows."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-high, high + 1, (rows, width), generator=generator).float()


def directions(rows: int, width: int, seed: int) -> Tensor:
    return unit_rows(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)))


@settings(deadline=None, max_examples=60)
@given(data=st.data(), backend=st.sampled_from(BACKENDS), exclude_self=st.booleans())
def test_small_searches_equal_a_loop_with_ties_to_the_lower_row(
    data: st.DataObject, backend: Backend, exclude_self: bool
) -> None:
    width = data.draw(st.integers(1, 4))
    row = st.lists(st.integers(-2, 2), min_size=width, max_size=width)
    gallery = torch.tensor(data.draw(st.lists(row, min_size=2, max_size=9)), dtype=torch.float16)
    queries = gallery
    if not exclude_self:
        drawn = data.draw(st.lists(row, min_size=1, max_size=5))
        queries = torch.tensor(drawn, dtype=torch.float32)
    k = data.draw(st.integers(1, len(gallery) - exclude_self))
    similarity, index = nearest_neighbours(
        queries, gallery, k, backend=backend, exclude_self=exclude_self
    )
    expected = oracle(queries, gallery, k, exclude_self)
    assert (similarity.tolist(), index.tolist()) == expected
    assert (similarity.dtype, index.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize(("width", "high"), [(1, 1), (3, 2), (8, 30)])
def test_large_searches_equal_a_loop_with_ties_to_the_lower_row(
    backend: Backend, exclude_self: bool, width: int, high: int
) -> None:
    gallery = integers(220, width, seed=1, high=high)
    queries = gallery if exclude_self else integers(30, width, seed=2, high=high)
    similarity, index = nearest_neighbours(
        queries, gallery, 5, backend=backend, exclude_self=exclude_self
    )
    assert (similarity.tolist(), index.tolist()) == oracle(queries, gallery, 5, exclude_self)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("memory_mib", [1, 512])
def test_the_result_depends_on_nothing_but_the_rows(backend: Backend, memory_mib: int) -> None:
    queries, gallery = directions(60, 64, seed=0), directions(2300, 64, seed=1)
    gallery[700:1500] = gallery[:800].clone()  # in other tiles than their originals
    gallery[100::50] = queries[0]  # more of them than any shortlist holds, in every tile
    products = (queries.double() @ gallery.double().T).float().numpy()
    order = np.stack([np.lexsort((np.arange(2300), -row)) for row in products])[:, :7]
    similarity, index = nearest_neighbours(
        queries, gallery, 7, backend=backend, memory_mib=memory_mib
    )
    assert np.array_equal(index.numpy(), order)
    assert np.array_equal(similarity.numpy(), np.take_along_axis(products, order, axis=1))


@settings(deadline=None, max_examples=60)
@given(data=st.data(), backend=st.sampled_from(BACKENDS), exclude_self=st.booleans())
def test_small_euclidean_searches_equal_a_loop(
    data: st.DataObject, backend: Backend, exclude_self: bool
) -> None:
    row = st.lists(st.integers(-2, 2), min_size=2, max_size=2)
    offset = data.draw(st.sampled_from([0, 1000]))
    gallery = offset + torch.tensor(data.draw(st.lists(row, min_size=2, max_size=9))).float()
    drawn = data.draw(st.lists(row, min_size=1, max_size=5))
    queries = gallery if exclude_self else offset + torch.tensor(drawn).float()
    k = data.draw(st.integers(1, len(gallery) - exclude_self))
    similarity, index = nearest_neighbours(
        queries, gallery, k, metric="euclidean", backend=backend, exclude_self=exclude_self
    )
    squares = (queries[:, None] - gallery).square().sum(dim=2)
    for i, row_of in enumerate(squares.tolist()):
        order = sorted((d, j) for j, d in enumerate(row_of) if not (exclude_self and i == j))[:k]
        assert index[i].tolist() == [j for _, j in order]
        assert similarity[i].tolist() == [-d for d, _ in order]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_metric_and_memory_leave_one_answer(metric: Metric, backend: Backend) -> None:
    queries, gallery = integers(60, 24, seed=0, high=9), integers(2300, 24, seed=1, high=9) + 0.5
    gallery[700:1500] = gallery[:800].clone()
    gallery[100::50] = queries[0]
    if metric == "cosine":
        true = (unit_rows(queries).double() @ unit_rows(gallery).double().T).float()
    else:
        true = -(queries[:, None].double() - gallery.double()).square().sum(dim=2).float()
    order = np.stack([np.lexsort((np.arange(2300), -row)) for row in true.numpy()])[:, :7]
    for memory_mib in (1, 512):
        for tables in (gallery, list(gallery.split([1, 1000, 1299]))):
            similarity, index = nearest_neighbours(
                queries, tables, 7, metric=metric, backend=backend, memory_mib=memory_mib
            )
            assert np.array_equal(index.numpy(), order)
            assert torch.equal(similarity, true.gather(1, index))


def test_a_back_end_of_low_precision_gives_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, gallery = directions(40, 3, seed=0), directions(12000, 3, seed=1)
    expected = nearest_neighbours(queries, gallery, 20)

    def bfloat16_tile(tile: Tensor) -> Any:
        rough = tile.bfloat16().float()
        return lambda part, n: (part.bfloat16().float() @ rough.T).topk(n)

    monkeypatch.setattr(search, "open_backend", lambda backend, device: bfloat16_tile)
    similarity, index = nearest_neighbours(queries, gallery, 20)
    assert torch.equal(similarity, expected[0])
    assert torch.equal(index, expected[1])


def test_the_order_of_the_gallery_changes_nothing_but_ties() -> None:
    queries, gallery = directions(20, 16, seed=0), directions(300, 16, seed=1)
    shuffle = torch.randperm(300, generator=torch.Generator().manual_seed(2))
    similarity, index = nearest_neighbours(queries, gallery, 6)
    similarity_2, index_2 = nearest_neighbours(queries, gallery[shuffle], 6)
    assert torch.equal(shuffle[index_2], index)
    assert torch.equal(similarity_2, similarity)


@pytest.mark.parametrize("gathered", [False, True])
def test_only_near_ties_are_ranked_against_the_whole_gallery(
    gathered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = directions(400, 16, seed=1)
    if gathered:  # almost one direction, as the features of a random backbone
        gallery = unit_rows(gallery + 100)
    gallery[100:130] = gallery[100]
    queries = torch.cat([gallery[:60] + 0, gallery[100:101]])
    ranked: list[Tensor] = []
    rank_gallery = search._rank_gallery

    def spy(task: Any, rows: Tensor, k: int) -> Tensor:
        ranked.append(rows)
        return rank_gallery(task, rows, k)

    monkeypatch.setattr(search, "_rank_gallery", spy)
    nearest_neighbours(queries, gallery, 3)
    assert torch.cat(ranked).tolist() == [60]


class LargestResult(TorchDispatchMode):
    """Records the largest tensor, in bytes, that any operation returns."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor) and not tensor._is_view():
                self.bytes = max(self.bytes, tensor.numel() * tensor.element_size())
        return result


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("duplicates", [False, True])
def test_no_intermediate_exceeds_the_memory_budget(backend: Backend, duplicates: bool) -> None:
    gallery = directions(4000, 96, seed=0).half()
    if duplicates:
        gallery[:] = gallery[0]  # all queries are ranked against the whole gallery
    with LargestResult() as largest:  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nearest_neighbours(gallery[:700], gallery, 2, backend=backend, memory_mib=1)
    assert 0 < largest.bytes <= 2**20


def test_rankings_do_not_exceed_the_memory_budget() -> None:
    features = directions(2000, 32, seed=0)
    with LargestResult() as largest:  # type: ignore[no-untyped-call]  # torch leaves it untyped
        chunks = [rows for rows, _ in leave_one_out_rankings(features, memory_mib=1)]
    assert 0 < largest.bytes <= 2**20
    assert torch.equal(torch.cat(chunks), torch.arange(2000))


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(2, 12), width=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_rankings_equal_a_loop_over_all_other_rows(rows: int, width: int, seed: int) -> None:
    features = integers(rows, width, seed)
    _, expected = oracle(features, features, rows, exclude_self=True)
    chunks = list(leave_one_out_rankings(features))
    assert torch.cat([rows for rows, _ in chunks]).tolist() == list(range(rows))
    assert torch.cat([ranking for _, ranking in chunks]).tolist() == expected


def test_rankings_do_not_depend_on_the_memory_budget() -> None:
    features = integers(500, 300, seed=0)
    small, large = (
        torch.cat([ranking for _, ranking in leave_one_out_rankings(features, memory_mib=mib)])
        for mib in (1, 512)
    )
    assert torch.equal(small, large)


@pytest.mark.parametrize(("exclude_self", "most"), [(False, 5), (True, 4)])
def test_k_must_fit_the_gallery(exclude_self: bool, most: int) -> None:
    rows = integers(5, 2, seed=0)
    nearest_neighbours(rows, rows, most, exclude_self=exclude_self)
    for k in (0, most + 1):
        with pytest.raises(InputError, match=f"^k: {k} .* 1 to {most};"):
            nearest_neighbours(rows, rows, k, exclude_self=exclude_self)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_rows_that_are_not_finite_are_counted_and_the_first_is_named(bad: float) -> None:
    rows = torch.zeros(2**20, 2, dtype=torch.float16)
    rows[700_001, 1] = bad
    rows[900_000] = bad
    with pytest.raises(InputError, match=r"^gallery: 2 of 1048576 rows .* row 700001,"):
        nearest_neighbours(rows[:3], rows, 1)
    with pytest.raises(InputError, match=r"^queries: 2 of"):
        nearest_neighbours(rows, rows[:3], 1)


def test_shapes_that_do_not_fit_are_named() -> None:
    rows = integers(5, 2, seed=0)
    with pytest.raises(InputError, match=r"^queries: 3 features a row, expected 2"):
        nearest_neighbours(integers(4, 3, seed=0), rows, 1)
    with pytest.raises(InputError, match=r"^gallery: .*\(0, 2\)"):
        nearest_neighbours(rows, rows[:0], 1)
    with pytest.raises(InputError, match=r"^memory_mib: must be >= 1, got 0"):
        nearest_neighbours(rows, rows, 1, memory_mib=0)


def test_an_unusable_faiss_is_refused_even_where_a_small_gallery_does_not_need_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    rows = integers(5, 2, seed=0)
    with pytest.raises(InputError, match=r"^faiss: "):
        nearest_neighbours(rows, rows, 1, backend="faiss")
    nearest_neighbours(rows, rows, 1, backend="auto")


@pytest.mark.parametrize("memory_mib", [1, 64])
def test_gallery_rankings_order_the_whole_gallery(memory_mib: int) -> None:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randint(-3, 4, (30, 5), generator=generator).float()
    gallery = torch.randint(-3, 4, (900, 5), generator=generator).float()
    seen = []
    for rows, ranking in gallery_rankings(queries, gallery, memory_mib=memory_mib):
        for row, found in zip(rows.tolist(), ranking.tolist(), strict=True):
            products = (gallery @ queries[row]).tolist()
            assert found == sorted(range(900), key=lambda j: (-products[j], j))
            seen.append(row)
    assert seen == list(range(30))

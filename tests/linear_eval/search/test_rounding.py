"""Tests of linear_eval.search.rounding."""

import pytest
import torch
from torch import Tensor

from linear_eval.features.rows import FeatureRows, feature_rows
from linear_eval.search import candidates, rounding
from linear_eval.search import streamed as streamed_search
from linear_eval.search.rough_tiles import Chunk, Tile
from linear_eval.search.rounding import (
    expected_candidates,
    fast_product,
    product_seconds,
    rough_dtype,
    round_rows,
)

DTYPES = (torch.float32, torch.bfloat16, torch.int8)


def test_rows_of_an_int8_tile_have_a_step_each() -> None:
    rows = torch.tensor([[1.0, -127.0, 0.4], [0.0, 0.0, 0.0], [1e-3, 5e-4, -1e-3]])
    rounded, step = round_rows(rows, torch.int8)
    assert rounded.tolist() == [[1, -127, 0], [0, 0, 0], [127, 64, -127]]
    assert (rounded * step - rows).abs().le(step / 2).all()


def made_of(spread: float) -> tuple[FeatureRows, FeatureRows, Tensor]:
    """Queries, gallery, centre; the less they are spread the more rounding hides."""
    generator = torch.Generator().manual_seed(0)
    direction, gallery, queries = torch.randn(3, 20_000, 64, generator=generator)
    gallery = direction[:1] * direction[1:2].norm() + spread * gallery
    rows = feature_rows(gallery)
    return feature_rows(direction[:1] + queries[:500]), rows, gallery.mean(dim=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_expected_candidates_are_about_those_that_are_found(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, gallery, center = made_of(1.0)
    counts = []
    multiply = candidates.exact_products

    def spy(tile: Tile, chunk: Chunk, rows: Tensor, columns: Tensor) -> Tensor:
        counts.append(len(rows))
        return multiply(tile, chunk, rows, columns)

    monkeypatch.setattr(streamed_search, "exact_products", spy)
    monkeypatch.setattr(streamed_search, "rough_dtype", lambda *_: dtype)
    streamed_search.stream_neighbours(queries, gallery, 20, exclude_self=False, memory=2**27)
    found = sum(counts) / len(queries)
    expected = float(expected_candidates(dtype, queries, gallery, 20, center).mean())
    assert found / 1.5 < expected < found * 1.5


def test_the_type_is_the_one_that_leads_to_the_answer_soonest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # of a query with 20,000 rows of 64 entries: 128, 38 and 13 microseconds
    seconds = {torch.float32: 1e-10, torch.bfloat16: 3e-11, torch.int8: 1e-11}
    monkeypatch.setattr(rounding, "product_seconds", lambda: seconds)
    found: dict[torch.dtype, float] = {}
    monkeypatch.setattr(
        rounding, "expected_candidates", lambda dtype, *_: torch.full((2,), found[dtype])
    )
    queries, gallery, center = made_of(1.0)

    def chosen(*numbers: float) -> torch.dtype:
        found.update(zip(DTYPES, numbers, strict=True))
        return rough_dtype(queries, gallery, 20, center)

    assert chosen(20, 20, 20) == torch.int8
    assert chosen(20, 20, 300) == torch.bfloat16  # 280 more cost 38 microseconds
    assert chosen(20, 500, 500) == torch.float32  # that many might be given up, which costs most
    del seconds[torch.int8]
    assert chosen(20, 20, 20) == torch.bfloat16


def test_rows_that_rounding_cannot_tell_apart_are_multiplied_in_float32() -> None:
    assert rough_dtype(*made_of(1e-5)[:2], 20, torch.zeros(64)) == torch.float32


@pytest.mark.parametrize("dtype", product_seconds())
def test_products_are_those_of_the_rows(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randint(-9, 10, (2, 48, 40), generator=generator).to(dtype)
    out = torch.empty(48, 48, dtype=torch.int32 if dtype == torch.int8 else torch.float32)
    out = out.to(dtype) if dtype == torch.bfloat16 else out
    fast_product(dtype)(left, right, out)
    exact = left.double() @ right.double().T
    assert torch.equal(out.double(), exact.to(out.dtype).double())


def test_products_are_timed_once_and_int8_only_where_it_is_exact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timed = rounding._products
    assert {torch.float32, torch.bfloat16} <= timed().keys()
    assert timed() is timed()
    multiply = torch._int_mm

    def clipping(left: Tensor, right: Tensor, out: Tensor) -> None:
        out.copy_(multiply(left, right).clamp_(-(2**15), 2**15 - 1))

    monkeypatch.setattr(torch, "_int_mm", clipping)
    assert torch.int8 not in timed.__wrapped__()
    monkeypatch.delattr(torch, "_int_mm")
    assert torch.int8 not in timed.__wrapped__()


def test_the_faster_of_two_products_in_float32_is_taken_where_torch_has_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds: dict[object, float] = {
        rounding._by_onednn: 1.0,
        rounding._by_mm: 2.0,
        rounding._by_int_mm: 3.0,
    }
    monkeypatch.setattr(rounding, "_seconds", lambda product, _: seconds[product])
    timed = rounding._products.__wrapped__
    has_onednn = rounding._is_exact(rounding._by_onednn, torch.float32)
    assert timed()[torch.float32] == (
        (rounding._by_onednn, 1.0) if has_onednn else (rounding._by_mm, 2.0)
    )
    seconds[rounding._by_onednn] = 4.0
    assert timed()[torch.float32] == (rounding._by_mm, 2.0)

    def missing(*_: object) -> None:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute")

    seconds[missing] = 0.0
    monkeypatch.setattr(rounding, "_by_onednn", missing)
    assert timed()[torch.float32] == (rounding._by_mm, 2.0)

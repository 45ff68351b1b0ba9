"""Tests of linear_eval.search.candidates."""

import pytest
import torch

from linear_eval.search.candidates import NO_KEY, by_query, find_candidates
from linear_eval.search.rough_tiles import STRIPES
from linear_eval.search.similarity_keys import ordered_bits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_ceiling", [False, True])
def test_candidates_are_the_pairs_between_floor_and_ceiling(
    dtype: torch.dtype, with_ceiling: bool
) -> None:
    blocks, sets, size = 3, 5, 4
    generator = torch.Generator().manual_seed(0)
    products = torch.randn(blocks, STRIPES, sets, size, generator=generator).to(dtype)
    floor = ordered_bits(torch.tensor([0.5, 1.0, -0.2, 9.0], dtype=dtype))
    ceiling = ordered_bits(torch.tensor([1.0, 2.0, 0.1, 9.0], dtype=dtype))
    hits = ordered_bits(products.amax(dim=1).view(-1, size)) >= floor
    by_row = products.transpose(0, 1).reshape(-1, size)  # block i: rows [i S, ...) of every stripe
    inside = ordered_bits(by_row) >= floor
    if with_ceiling:
        inside &= ordered_bits(by_row) < ceiling
    rows, columns, values = find_candidates(
        products, hits.numpy(), floor, ceiling if with_ceiling else None
    )
    expected = inside.nonzero()
    assert torch.equal(torch.stack([rows, columns], dim=1), expected)
    assert torch.equal(values, by_row.double()[inside])
    assert 0 < len(rows) < by_row.numel()


def test_keys_are_put_under_their_queries() -> None:
    keys = torch.tensor([5, 1, 9, 4])
    found = by_query(keys, torch.tensor([2, 0, 2, 2]), 4)
    assert found.tolist() == [[1, NO_KEY, NO_KEY], [NO_KEY] * 3, [5, 9, 4], [NO_KEY] * 3]

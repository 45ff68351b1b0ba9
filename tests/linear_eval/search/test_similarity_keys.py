import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from linear_eval.search.similarity_keys import (
    best_keys,
    decode_keys,
    floats_of,
    ordered_bits,
    similarity_keys,
    sort_keys,
)

FLOATS = st.lists(
    st.one_of(
        st.floats(width=32, allow_nan=False),
        st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0**-149, -(2.0**-149), math.inf]),
    ),
    min_size=1,
    max_size=12,
)


def keys_of(values: list[float], excluded: list[bool] | None = None) -> torch.Tensor:
    n = len(values)
    return similarity_keys(
        torch.tensor([values], dtype=torch.float64),
        torch.arange(n),
        torch.tensor([excluded or [False] * n]),
    )


@given(FLOATS)
def test_keys_sort_by_falling_similarity_and_then_by_rising_row(values: list[float]) -> None:
    expected = sorted(range(len(values)), key=lambda row: (-values[row], row))
    _, rows = decode_keys(sort_keys(keys_of(values)))
    assert rows[0].tolist() == expected


@given(FLOATS, st.integers(1, 14))
def test_the_best_keys_are_the_first_of_the_sorted_ones(values: list[float], k: int) -> None:
    assert torch.equal(best_keys(keys_of(values), k), sort_keys(keys_of(values))[:, :k])


@given(FLOATS)
def test_keys_give_back_similarity_and_row(values: list[float]) -> None:
    similarity, rows = decode_keys(keys_of(values))
    assert similarity[0].tolist() == values
    assert rows[0].tolist() == list(range(len(values)))


def test_rows_beyond_31_bits_survive() -> None:
    row = torch.tensor([2**32 - 1])
    similarity, rows = decode_keys(similarity_keys(torch.tensor([[-0.5]]), row, row[None] < 0))
    assert (similarity.item(), rows.item()) == (-0.5, 2**32 - 1)


def test_excluded_pairs_come_last() -> None:
    _, rows = decode_keys(sort_keys(keys_of([3.0, -1e38, 2.0], [True, False, False])))
    assert rows[0].tolist() == [2, 1, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(values=FLOATS)
def test_bits_are_of_the_order_of_the_values(dtype: torch.dtype, values: list[float]) -> None:
    floats = torch.tensor(values).to(dtype)
    bits = ordered_bits(floats)
    signed = [(value, math.copysign(1, value)) for value in floats.tolist()]
    assert bits.argsort(stable=True).tolist() == sorted(range(len(signed)), key=signed.__getitem__)
    assert floats_of(bits, dtype).tolist() == floats.tolist()

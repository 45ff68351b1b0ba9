"""Tests of ssl_bf.losses.unit_length."""

import math

import pytest
import torch

from ssl_bf.losses.unit_length import full_precision, unit_length

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_are_divided_by_their_length_in_full_precision(dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    result = unit_length(x)
    assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    for s in range(2):
        for i in range(3):
            row = x[s, i].tolist()
            length = math.sqrt(sum(value * value for value in row))
            expected = torch.tensor([value / length for value in row], dtype=result.dtype)
            torch.testing.assert_close(result[s, i], expected)


def test_squares_that_overflow_half_precision_do_no_harm() -> None:
    x = torch.tensor([[3000.0, -4000.0]], dtype=torch.float16)
    torch.testing.assert_close(unit_length(x), torch.tensor([[0.6, -0.8]]))


def test_a_zero_vector_stays_zero() -> None:
    assert torch.equal(unit_length(torch.zeros(2, 4)), torch.zeros(2, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_has_the_digits_already_is_not_copied(dtype: torch.dtype) -> None:
    x = torch.ones(3, dtype=dtype)
    assert full_precision(x) is x


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_to_float32(dtype: torch.dtype) -> None:
    x = torch.tensor([0.1, -7.0], dtype=dtype)
    assert full_precision(x).dtype == torch.float32
    assert full_precision(x).tolist() == x.tolist()

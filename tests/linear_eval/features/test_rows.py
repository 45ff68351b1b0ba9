import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from linear_eval.features.rows import Metric, feature_rows, require_finite, unit_rows
from linear_eval.system.errors import InputError

CPU = torch.device("cpu")


def directions(rows: int, width: int, seed: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=50)
@given(
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any),
    metric=st.sampled_from(["inner", "cosine", "euclidean"]),
    data=st.data(),
)
def test_several_tables_hand_out_the_rows_of_one(
    lengths: list[int], metric: Metric, data: st.DataObject
) -> None:
    whole = directions(sum(lengths), 3, seed=0).half()
    rows = feature_rows(list(whole.split(lengths)), metric)
    expected = unit_rows(whole) if metric == "cosine" else whole.float()
    assert (len(rows), rows.width) == (len(whole), 3)
    start = data.draw(st.integers(0, len(whole) - 1))
    stop = data.draw(st.integers(start + 1, len(whole) + 2))
    assert torch.equal(rows.between(start, stop, CPU), expected[start:stop])
    index = torch.tensor(data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=9)))
    assert torch.equal(rows.take(index.long(), CPU), expected[index.long()])


def test_tables_of_unequal_width_or_without_rows_are_named() -> None:
    with pytest.raises(InputError, match=r"^gallery: parts of 3, 2 features"):
        feature_rows([torch.zeros(1, 3), torch.zeros(1, 2)], name="gallery")
    with pytest.raises(InputError, match=r"^gallery: expected rows .*\(0, 3\)"):
        feature_rows([torch.zeros(0, 3)], name="gallery")


def test_rows_that_are_not_finite_are_counted_over_all_tables() -> None:
    tables = [torch.zeros(4, 2), torch.zeros(5, 2)]
    require_finite(tables, "rows")
    tables[1][2, 1] = torch.nan
    tables[1][4] = torch.inf
    with pytest.raises(InputError, match=r"^rows: 2 of 9 rows .* first in row 6,"):
        require_finite(tables, "rows")


@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-30])
def test_unit_rows_have_length_one_whatever_their_scale(scale: float) -> None:
    rows = torch.tensor([[3.0, 4.0], [-5.0, 12.0]]) * scale
    expected = torch.tensor([[0.6, 0.8], [-5 / 13, 12 / 13]])
    assert torch.allclose(unit_rows(rows), expected, atol=1e-6)


def test_unit_rows_of_half_precision_extremes_are_finite() -> None:
    rows = torch.tensor([[65504.0, 65504.0], [6e-8, 0.0], [0.0, 0.0]], dtype=torch.float16)
    half = 0.5**0.5
    assert torch.allclose(unit_rows(rows), torch.tensor([[half, half], [1, 0], [0, 0]]), atol=1e-6)


def test_equal_rows_have_equal_unit_rows_wherever_they_stand() -> None:
    rows = directions(1, 37, seed=0).mul(7).repeat(101, 1)
    assert (unit_rows(rows) == unit_rows(rows[:1])).all()

"""A table made of features from elsewhere."""

import pytest
import torch

import linear_eval

X = torch.randn(4, 3)


def test_ids_may_be_left_out() -> None:
    table = linear_eval.Features(X, torch.tensor([0, 1, 1, 0]))
    assert table.ids == ("0", "1", "2", "3")
    assert len(table) == 4


@pytest.mark.parametrize(
    ("x", "labels", "says"),
    [
        (X[0], torch.zeros(3, dtype=torch.int64), "x: is"),
        (X.long(), torch.zeros(4, dtype=torch.int64), "x: is"),
        (X, torch.zeros(4), "labels: are torch.float32"),
        (X, torch.zeros(3, dtype=torch.int64), "features: 4 rows, 3 labels"),
    ],
)
def test_columns_must_belong_together(x: torch.Tensor, labels: torch.Tensor, says: str) -> None:
    with pytest.raises(linear_eval.InputError, match=says):
        linear_eval.Features(x, labels)

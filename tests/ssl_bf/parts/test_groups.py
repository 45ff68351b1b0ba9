"""Tests of ssl_bf.parts.groups."""

from typing import Any

import pytest
import torch

from linear_eval.system.errors import InputError
from ssl_bf.parts.groups import check_group, check_heads, collect, deal

N, D = 6, 2


@pytest.mark.parametrize("order", [None, torch.tensor([3, 1, 5, 0, 4, 2])])
@pytest.mark.parametrize(
    ("context", "shape"), [(2, (3, 2, D)), (3, (2, 3, D)), ("local", (1, N, D))]
)
def test_rows_are_dealt_and_come_back_to_their_places(
    order: torch.Tensor | None, context: Any, shape: tuple[int, ...]
) -> None:
    features = torch.arange(N * D).reshape(N, D)
    sequences = deal(features, order, context)
    assert sequences.shape == shape
    rows = range(N) if order is None else order.tolist()
    assert torch.equal(sequences.flatten(0, 1), torch.stack([features[row] for row in rows]))
    assert torch.equal(collect(sequences, order), features)


def test_a_group_of_one_and_heads_that_do_not_fit_are_refused() -> None:
    check_group(2)
    check_group("neighbours")
    check_heads(4, 8)
    with pytest.raises(ValueError, match="^context: a group needs at least 2 rows, got 1"):
        check_group(1)
    with pytest.raises(InputError, match=r"relation\.heads: 3 heads do not divide the width 8"):
        check_heads(3, 8)

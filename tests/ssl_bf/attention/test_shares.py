"""Tests of ssl_bf.attention.shares, against a count row by row."""

import pytest
import torch

from ssl_bf.attention.shares import attention_shares
from ssl_bf.layers.attention_weights import attention

B, HEADS, G, R = 3, 2, 4, 7


@pytest.mark.parametrize("seed", range(3))
def test_they_equal_a_count_row_by_row(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    seen = torch.rand(B, 1, G, R, generator=draw) < 0.7
    for place in range(G):
        seen[:, :, place, place] = True
    weights = torch.rand(B, HEADS, G, R, generator=draw, dtype=torch.float64) * seen
    weights = weights / weights.sum(dim=3, keepdim=True)
    own = torch.randint(-1, 3, (B, G), generator=draw)
    others = torch.cat([own, torch.randint(-1, 3, (B, R - G), generator=draw)], dim=1)
    itself = same = given = chance = 0.0
    for b in range(B):
        for row in range(G):
            mean = weights[b, :, row].mean(dim=0).tolist()
            itself += mean[row] / (B * G)
            if own[b, row] < 0:
                continue
            may = [r for r in range(R) if r != row and bool(seen[b, 0, row, r])]
            alike = [r for r in may if others[b, r] == own[b, row]]
            to_others = sum(mean[r] for r in may)
            given += to_others
            same += sum(mean[r] for r in alike)
            chance += to_others * len(alike) / len(may) if may else 0.0
    found = attention_shares(attention(weights, seen), own, others)
    assert found.itself == pytest.approx(itself)
    assert found.same_class == pytest.approx(same / given)
    assert found.by_chance == pytest.approx(chance / given)


def test_equal_weights_give_what_chance_would() -> None:
    labels = torch.tensor([[0, 0, 1, 1, 1]])
    found = attention_shares(attention(torch.full((1, 2, 5, 5), 0.2)), labels, labels)
    assert found.itself == pytest.approx(0.2)
    assert found.same_class == found.by_chance == pytest.approx((2 * 1 / 4 + 3 * 2 / 4) / 5)


def test_rows_that_see_themselves_alone_and_rows_without_labels_have_no_share() -> None:
    labels = torch.tensor([[0, 0]])
    alone = attention_shares(attention(torch.eye(2).expand(1, 2, 2, 2)), labels, labels)
    assert (alone.itself, alone.same_class, alone.by_chance) == (1, None, None)
    unknown = torch.full((1, 2), -1)
    found = attention_shares(attention(torch.full((1, 2, 2, 2), 0.5)), unknown, unknown)
    assert (found.itself, found.same_class, found.by_chance) == (0.5, None, None)

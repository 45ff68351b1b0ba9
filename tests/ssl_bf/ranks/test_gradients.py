"""Tests of ssl_bf.ranks.gradients."""

import pytest
import torch

from ssl_bf.ranks import gradients
from ssl_bf.ranks.gradients import average


@pytest.mark.parametrize("bucket", [1, 7, 1000])
@pytest.mark.parametrize("is_ordered", [False, True])
def test_the_first_shard_gets_the_mean(
    bucket: int, is_ordered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradients, "BUCKET", bucket)
    shapes = [(2, 3), (4,), (), (2, 3, 2, 2)]
    own = [[torch.randn(shape, dtype=torch.float64) for shape in shapes] for _ in range(3)]
    own[0][3] = own[0][3].to(memory_format=torch.channels_last)
    expected = [torch.stack(each).mean(dim=0) for each in zip(*own, strict=True)]
    average(own, 3, is_ordered=is_ordered)
    torch.testing.assert_close(own[0], expected)
    assert own[0][3].is_contiguous(memory_format=torch.channels_last)


def test_the_order_is_that_of_the_shards() -> None:
    own = [[torch.tensor([value])] for value in (1e8, 1.0, -1e8)]
    average(own, 1, is_ordered=True)
    assert own[0][0].item() == 0.0  # another order gives 1

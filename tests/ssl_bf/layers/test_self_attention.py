"""Tests of ssl_bf.layers.self_attention."""

import pytest
import torch
from torch import nn

from ssl_bf.layers.self_attention import SelfAttention


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_it_equals_the_frameworks_attention_and_starts_as_it_does(heads: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours = SelfAttention(8, heads).double()
        torch.manual_seed(0)
        theirs = nn.MultiheadAttention(8, heads, batch_first=True).double()
        rows = torch.randn(3, 5, 8, dtype=torch.float64)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, ours.state_dict()[name]), name
    expected, _ = theirs(rows, rows, rows)
    torch.testing.assert_close(ours(rows, 0.0), expected)


def test_dropout_is_as_asked_whatever_the_mode() -> None:
    rows = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    attention = SelfAttention(8, 2)
    for module in (attention.train(), attention.eval()):
        assert torch.equal(module(rows, 0.0), module(rows, 0.0))
        assert not torch.equal(module(rows, 0.5), module(rows, 0.5))

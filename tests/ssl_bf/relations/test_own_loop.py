"""BatchFormer in somebody's own loop."""

import pytest
import torch

from linear_eval.system.errors import InputError
from ssl_bf.relations.own_loop import BatchFormer


def test_streams_in_training_and_plain_features_in_eval() -> None:
    relate = BatchFormer(16, context=4)
    features = torch.randn(12, 16, requires_grad=True)
    streams = relate(features)
    assert streams.shape == (2, 12, 16)
    assert torch.equal(streams[0], features)
    assert not torch.equal(streams[1], features)
    streams[1].square().sum().backward()
    assert all(each.grad is not None for each in relate.parameters())
    relate.eval()
    assert torch.equal(relate(features[:5]), features[None, :5])


def test_rows_see_their_group_alone_and_groups_are_dealt_anew() -> None:
    torch.manual_seed(0)
    relate = BatchFormer(8, context=2, dropout=0.0)
    features = torch.randn(8, 8, requires_grad=True)
    seen = []
    for _ in range(8):
        (grad,) = torch.autograd.grad(relate(features)[1, 0].square().sum(), features)
        partners = grad.abs().sum(1).nonzero().flatten().tolist()
        assert len(partners) == 2 and partners[0] == 0
        seen.append(partners[1])
    assert len(set(seen)) > 2


def test_the_whole_batch_is_one_group_if_asked() -> None:
    relate = BatchFormer(8, context="local", dropout=0.0)
    features = torch.randn(5, 8, requires_grad=True)
    (grad,) = torch.autograd.grad(relate(features)[1, 0].square().sum(), features)
    assert (grad.abs().sum(1) > 0).all()


def test_the_global_seed_decides() -> None:
    streams = []
    for _ in range(2):
        torch.manual_seed(3)
        streams.append(BatchFormer(8, context=2)(torch.ones(6, 8)))
    assert torch.equal(*streams)


def test_wrong_values_are_one_line() -> None:
    with pytest.raises(InputError, match="4 heads do not divide the width 6"):
        BatchFormer(6)
    with pytest.raises(InputError, match="dropout: must lie"):
        BatchFormer(8, dropout=1.0)
    with pytest.raises(InputError, match="groups of 4 do not divide a batch of 6"):
        BatchFormer(8, context=4)(torch.ones(6, 8))

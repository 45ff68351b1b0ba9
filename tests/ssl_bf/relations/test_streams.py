"""Tests of ssl_bf.relations.streams."""

import copy
from itertools import product
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from ssl_bf.layers.batch_norm import set_batch_norm_mode
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.relations.streams import (
    PAIR_WEIGHTS,
    Pairs,
    StreamRules,
    mean_over_stream_pairs,
    per_row,
    project_and_relate,
)

N, D, P = 6, 4, 3
TABLE = ((0.5, 0.0), (2.0, 0.25))
ALL_PAIRS: list[Pairs] = ["plain_keys", "all", "matched", "plain_queries", "related", TABLE]


def randn(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def head(mode: str = "local") -> nn.Sequential:
    """A head with BatchNorm."""
    with initial_values(0, "head"):
        layers = nn.Sequential(nn.Linear(D, P), nn.BatchNorm1d(P), nn.ReLU()).double()
    set_batch_norm_mode(layers, mode)
    return layers


@pytest.mark.parametrize(
    ("pairs", "named"),
    [
        ("plain_keys", {"oo", "bo"}),
        ("all", {"oo", "ob", "bo", "bb"}),
        ("matched", {"oo", "bb"}),
        ("plain_queries", {"oo", "ob"}),
        ("related", {"bb"}),
    ],
)
def test_a_name_stands_for_its_pairs_of_query_and_key_stream(
    pairs: Literal["plain_keys", "all", "matched", "plain_queries", "related"], named: set[str]
) -> None:
    weights = StreamRules(pairs=pairs).weights
    for (a, query), (c, key) in product(enumerate("ob"), enumerate("ob")):
        assert weights[a][c] == (1.0 if query + key in named else 0.0)
    assert pairs in PAIR_WEIGHTS


@pytest.mark.parametrize("pairs", ALL_PAIRS)
def test_a_stream_is_related_when_some_pair_uses_it(pairs: Pairs) -> None:
    rules = StreamRules(pairs=pairs)
    assert rules.relates_queries == (rules.weights[1][0] > 0 or rules.weights[1][1] > 0)
    assert rules.relates_keys == (rules.weights[0][1] > 0 or rules.weights[1][1] > 0)


def test_the_default_relates_queries_against_plain_keys() -> None:
    assert StreamRules().relates_queries
    assert not StreamRules().relates_keys
    plain = StreamRules(pairs=((1.0, 0.0), (0.0, 0.0)))
    assert not plain.relates_queries
    assert not plain.relates_keys


@pytest.mark.parametrize(
    "table",
    [
        (),
        ((1.0,), (1.0,)),
        ((1.0, 1.0),),
        ((1.0, 1.0), (1.0, 1.0), (1.0, 1.0)),
        ((1.0, 0.0), (1.0, 0.0, 0.0)),
        ((0.0, 0.0), (0.0, 0.0)),
        ((1.0, -0.5), (1.0, 1.0)),
    ],
)
def test_a_table_that_is_not_two_by_two_or_names_no_pair_is_refused(
    table: tuple[tuple[float, ...], ...],
) -> None:
    with pytest.raises(ValueError, match="pairs: "):
        StreamRules(pairs=table)


NUMBERS = (0, 1)  # of the key streams


def some_loss(queries: Tensor, key: Tensor, key_stream: int) -> Tensor:
    """Told apart by query, key and the number of the key stream; (A, N, P) -> (A,)."""
    return (queries * key.cos()).sum(dim=(-2, -1)) + 10 * key_stream


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("pairs", ALL_PAIRS)
def test_the_loss_is_the_weighted_mean_or_sum_over_pairs(
    pairs: Pairs, reduction: Literal["mean", "sum"]
) -> None:
    queries, keys = randn(2, N, P, seed=1), randn(2, N, P, seed=2)
    rules = StreamRules(pairs=pairs, reduction=reduction)
    total, weight = 0.0, 0.0
    for a in range(2):
        for c in range(2):
            total += rules.weights[a][c] * some_loss(queries[a], keys[c], c).item()
            weight += rules.weights[a][c]
    expected = total if reduction == "sum" else total / weight
    result = mean_over_stream_pairs(some_loss, queries, keys, rules, NUMBERS)
    assert result.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("pairs", ALL_PAIRS)
def test_one_stream_on_both_sides_gives_that_loss_itself(pairs: Pairs) -> None:
    query, key = randn(1, N, P, seed=1), randn(1, N, P, seed=2)
    result = mean_over_stream_pairs(
        some_loss, query, key, StreamRules(pairs=pairs, reduction="sum"), NUMBERS
    )
    assert torch.equal(result, some_loss(query, key[0], 0)[0])


def test_the_pairs_of_an_absent_stream_drop_out_of_sum_and_weight() -> None:
    queries, keys = randn(2, N, P, seed=1), randn(1, N, P, seed=2)
    result = mean_over_stream_pairs(some_loss, queries, keys, StreamRules(pairs=TABLE), NUMBERS)
    expected = (
        0.5 * some_loss(queries[0], keys[0], 0) + 2 * some_loss(queries[1], keys[0], 0)
    ) / 2.5
    torch.testing.assert_close(result, expected)


def test_a_pair_of_weight_0_is_never_computed() -> None:
    assert asked_for("matched") == [([0.0], 0), ([1.0], 1)]
    assert asked_for("plain_keys") == [([0.0, 1.0], 0)]


def test_a_key_stream_meets_all_its_query_streams_at_once() -> None:
    assert asked_for("all") == [([0.0, 1.0], 0), ([0.0, 1.0], 1)]


def asked_for(pairs: Pairs) -> list[tuple[list[float], int]]:
    """Query streams and key stream of each call of the loss."""
    calls: list[tuple[list[float], int]] = []

    def loss(queries: Tensor, key: Tensor, key_stream: int) -> Tensor:
        calls.append((queries[:, 0, 0].tolist(), key_stream))
        return queries.sum(dim=(1, 2)) + key.sum()

    queries = torch.stack([torch.full((N, P), 0.0), torch.full((N, P), 1.0)])
    mean_over_stream_pairs(loss, queries, queries, StreamRules(pairs=pairs), NUMBERS)
    return calls


def test_no_pair_at_all_is_our_own_mistake() -> None:
    queries, keys = randn(2, N, P, seed=1), randn(1, N, P, seed=2)
    with pytest.raises(AssertionError, match="no pair of 2 x 1 streams"):
        mean_over_stream_pairs(some_loss, queries, keys, StreamRules(pairs="related"), NUMBERS)


def test_joint_batch_norm_normalises_all_rows_of_all_streams() -> None:
    joint, reference = head(), head()
    streams = randn(2, N, D, seed=1) * torch.tensor([1.0, 5.0])[:, None, None]
    result = per_row(joint, streams, "joint")
    expected = reference(torch.cat([streams[0], streams[1]])).unflatten(0, (2, N))
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(dict(joint.state_dict()), dict(reference.state_dict()))


def test_split_batch_norm_normalises_each_stream_and_records_stream_0() -> None:
    split, reference = head(), head()
    streams = randn(2, N, D, seed=1) * torch.tensor([1.0, 5.0])[:, None, None]
    result = per_row(split, streams, "split")
    torch.testing.assert_close(result[1], copy.deepcopy(reference)(streams[1]))
    torch.testing.assert_close(result[0], reference(streams[0]))
    torch.testing.assert_close(dict(split.state_dict()), dict(reference.state_dict()))
    assert int(split.get_buffer("1.num_batches_tracked")) == 1


@pytest.mark.parametrize("batch_norm", ["joint", "split"])
def test_split_and_joint_agree_on_one_stream(batch_norm: Literal["joint", "split"]) -> None:
    features = randn(1, N, D, seed=1)
    ours, reference = head(), head()
    assert torch.equal(per_row(ours, features, batch_norm)[0], reference(features[0]))
    torch.testing.assert_close(dict(ours.state_dict()), dict(reference.state_dict()))


@pytest.mark.parametrize("groups", [2, 3])
def test_a_batch_norm_group_holds_all_streams_of_its_images(groups: int) -> None:
    """`groups:G` does as G devices would, each of which has every stream of its own images."""
    streams = randn(2, N, D, seed=1) * torch.tensor([1.0, 5.0])[:, None, None]
    result = per_row(head(f"groups:{groups}"), streams, "joint")
    for share, expected_of in zip(result.chunk(groups, 1), streams.chunk(groups, 1), strict=True):
        torch.testing.assert_close(share, per_row(head(), expected_of, "joint"))


@pytest.mark.parametrize("batch_norm", ["joint", "split"])
def test_the_gradient_reaches_every_stream(batch_norm: Literal["joint", "split"]) -> None:
    streams = randn(2, N, D, seed=1).requires_grad_()
    torch.autograd.backward((per_row(head(), streams, batch_norm) * randn(2, N, P, seed=2)).sum())
    assert streams.grad is not None
    assert streams.grad.abs().amax(dim=(1, 2)).min() > 1e-3


@pytest.mark.parametrize("batch_norm", ["joint", "split"])
def test_the_relation_sits_before_or_after_the_projector(
    batch_norm: Literal["joint", "split"],
) -> None:
    features = randn(N, D, seed=1)
    projector = nn.Linear(D, P).double()

    def relate(rows: Tensor) -> Tensor:
        return torch.stack([rows, rows.flip(0) ** 2])

    at_backbone = project_and_relate(
        features, projector, relate, StreamRules(insert_at="backbone", batch_norm=batch_norm)
    )
    torch.testing.assert_close(at_backbone[0], projector(features))
    torch.testing.assert_close(at_backbone[1], projector(features.flip(0) ** 2))
    at_projection = project_and_relate(
        features, projector, relate, StreamRules(insert_at="projection", batch_norm=batch_norm)
    )
    torch.testing.assert_close(at_projection[0], projector(features))
    torch.testing.assert_close(at_projection[1], projector(features).flip(0) ** 2)

"""Tests of ssl_bf.methods.moco_v3; tests/parity compares with the published numbers."""

import math
from functools import partial
from itertools import product
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from ssl_bf.keyed_random import StepContext
from ssl_bf.losses.info_nce import info_nce
from ssl_bf.losses.unit_length import unit_length
from ssl_bf.methods.method import Start
from ssl_bf.methods.moco_v3 import MoCoV3, MoCoV3Config
from ssl_bf.relations import RelationConfig
from ssl_bf.relations.batchformer import BatchFormerConfig, BatchTransformer
from ssl_bf.relations.no_relation import NoRelationConfig
from ssl_bf.relations.streams import Pairs, mean_over_stream_pairs, per_row
from ssl_bf.relations.surroundings import Samples
from tests.pairs import pair

N, WIDTH, OUT = 6, 8, 4
SAMPLES = Samples(torch.arange(N))
PAIRS: list[Pairs] = [
    *("plain_keys", "all", "matched", "plain_queries", "related"),
    ((0.5, 0.0), (2.0, 1.0)),
]
CONTEXT = StepContext(seed=1, step=4)


def build(relation: RelationConfig | None = None, **keys: Any) -> MoCoV3:
    config = MoCoV3Config(**{"projection_dim": OUT, "hidden_dim": 16, "temperature": 0.4, **keys})
    return config.build(Start(nn.Identity(), WIDTH, relation or NoRelationConfig())).double()


def batchformer(**keys: Any) -> BatchFormerConfig:
    return BatchFormerConfig(**{"heads": 2, "context": 3, "dropout": 0.0, "pairs": "all", **keys})


def views(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn(2, N, WIDTH, generator=generator, dtype=torch.float64)
    return both[0], both[1]


def one_term(query: Tensor, key: Tensor, temperature: float) -> float:
    """2 T times the cross-entropy of each query over the keys of one stream, pair by pair."""
    total = 0.0
    for i in range(N):
        similar = [
            sum(x * y for x, y in zip(query[i].tolist(), key[j].tolist(), strict=True))
            for j in range(N)
        ]
        log_sum = math.log(sum(math.exp(value / temperature) for value in similar))
        total += log_sum - similar[i] / temperature
    return 2 * temperature * total / N


@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("place", ["projection", "backbone"])
def test_the_loss_equals_its_definition(
    pairs: Pairs, reduction: Literal["mean", "sum"], place: Literal["projection", "backbone"]
) -> None:
    method = build(batchformer(pairs=pairs, reduction=reduction, insert_at=place))
    rules = method.relation.rules
    view_1, view_2 = views()
    expected, weights = 0.0, 0.0
    for first, second in ((1, 2), (2, 1)):
        queries = unit_length(method.query((view_1, view_2)[first - 1], SAMPLES, CONTEXT, first))
        keys = method.key((view_1, view_2)[second - 1], SAMPLES, CONTEXT, second)
        for a, c in product(range(len(queries)), range(len(keys))):
            expected += rules.weights[a][c] * one_term(queries[a], keys[c], 0.4)
            weights += rules.weights[a][c] / 2
    if reduction == "mean":
        expected /= weights
    assert method(pair(view_1, view_2), CONTEXT).item() == pytest.approx(expected, rel=1e-12)


def test_random_networks_give_about_4_t_times_the_log_of_the_batch() -> None:
    method = build(projection_dim=512, temperature=1.0)
    assert method(pair(*views())).item() == pytest.approx(4 * math.log(N), abs=0.3)


def test_the_two_views_have_equal_rights() -> None:
    method = build(batchformer(context="local"))
    view_1, view_2 = views()
    torch.testing.assert_close(method(pair(view_1, view_2)), method(pair(view_2, view_1)))


@pytest.mark.parametrize("place", ["projection", "backbone"])
def test_the_relation_sits_behind_or_before_the_projector_and_before_the_predictor(
    place: Literal["projection", "backbone"],
) -> None:
    method = build(batchformer(insert_at=place, parameters="shared"))
    relating = method.relation.relating
    assert isinstance(relating, BatchTransformer)
    view, _ = views()
    orders = {side: CONTEXT.permutation(f"groups/{side}/1", N) for side in ("query", "key")}
    expected = {}
    for side, projector in (("query", method.projector), ("key", method.slow_projector)):
        if place == "projection":
            plain = projector(view)
            related = relating(plain, orders[side], dropout=False)
            expected[side] = torch.stack([plain, related])
        else:
            related = relating(view, orders[side], dropout=False)
            expected[side] = per_row(projector, torch.stack([view, related]), "joint")
    predictions = per_row(method.predictor, expected["query"], "joint")
    torch.testing.assert_close(method.query(view, SAMPLES, CONTEXT, 1), predictions)
    keys = unit_length(expected["key"]).detach()
    torch.testing.assert_close(method.key(view, SAMPLES, CONTEXT, 1), keys)


def test_the_predictor_has_no_part_in_the_keys() -> None:
    method = build()
    view, _ = views()
    before = method.key(view, SAMPLES, CONTEXT, 1)
    with torch.no_grad():
        for p in method.predictor.parameters():
            p.zero_()
    assert torch.equal(method.key(view, SAMPLES, CONTEXT, 1), before)
    assert [slow for slow, _ in method.slow_pairs()] == [
        method.slow_backbone,
        method.slow_projector,
    ]


def test_keys_have_unit_length_and_no_gradient() -> None:
    method = build(batchformer(parameters="shared"))
    view = views()[0].requires_grad_()
    keys = method.key(view, SAMPLES, CONTEXT, 1)
    assert keys.shape == (2, N, OUT)
    assert not keys.requires_grad
    torch.testing.assert_close(keys.norm(dim=2), torch.ones(2, N).double())


def test_the_gradient_reaches_the_queries_alone() -> None:
    method = build(batchformer(parameters="shared"))
    view_1, view_2 = (view.requires_grad_() for view in views())
    given = torch.autograd.grad(method(pair(view_1, view_2), CONTEXT), (view_1, view_2))
    keys_1, keys_2 = (
        method.key(v, SAMPLES, CONTEXT, n).clone() for n, v in ((1, view_1), (2, view_2))
    )
    loss = torch.zeros((), dtype=torch.float64)
    for number, (view, keys) in enumerate(((view_1, keys_2), (view_2, keys_1)), start=1):
        queries, others = method.query(view, SAMPLES, CONTEXT, number), method.negatives(keys, N)
        of_pair, rules = partial(info_nce, temperature=0.4), method.relation.rules
        loss = loss + 2 * 0.4 * mean_over_stream_pairs(of_pair, queries, keys, rules, others)
    for gradient, expected in zip(given, torch.autograd.grad(loss, (view_1, view_2)), strict=True):
        torch.testing.assert_close(gradient, expected)
        assert gradient.abs().max() > 1e-3


def test_the_slow_encoder_starts_equal() -> None:
    for slow, fast in build().slow_pairs():
        torch.testing.assert_close(dict(slow.state_dict()), dict(fast.state_dict()), rtol=0, atol=0)


def test_it_has_no_notes() -> None:
    assert build(batchformer(parameters="shared")).notes() == []


def test_the_heads_for_vision_transformers_have_one_layer_and_one_norm_more() -> None:
    resnet = build(batch_norm="local")
    vit = build(batch_norm="local", hidden_layers=2, predictor_batch_norm=True)
    norm, hidden = ["BatchNorm1d"], ["Linear", "BatchNorm1d", "ReLU"]

    def kinds(head: nn.Module) -> list[str]:
        return [type(layer).__name__ for layer in head.children()]

    assert kinds(resnet.projector) == [*hidden, "Linear", *norm]
    assert kinds(resnet.predictor) == [*hidden, "Linear"]
    assert kinds(vit.projector) == kinds(vit.slow_projector) == [*hidden, *hidden, "Linear", *norm]
    assert kinds(vit.predictor) == [*hidden, "Linear", *norm]
    shapes = [tuple(p.shape) for p in vit.projector.parameters() if p.ndim == 2]
    assert shapes == [(16, WIDTH), (16, 16), (OUT, 16)]
    affine = [m.affine for m in vit.modules() if isinstance(m, nn.BatchNorm1d)]
    assert affine == [True, True, False, True, False, True, True, False]
    linears = [m for m in vit.modules() if isinstance(m, nn.Linear)]
    assert all(linear.bias is None for linear in linears)

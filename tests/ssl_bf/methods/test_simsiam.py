"""Tests of ssl_bf.methods.simsiam; tests/parity compares with the published numbers."""

import math
from itertools import product
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from ssl_bf.keyed_random import StepContext
from ssl_bf.methods.method import Start
from ssl_bf.methods.simsiam import SimSiam, SimSiamConfig
from ssl_bf.relations import RelationConfig
from ssl_bf.relations.batchformer import BatchFormerConfig
from ssl_bf.relations.controls import CopyConfig, DropoutOnlyConfig, SelfOnlyConfig
from ssl_bf.relations.no_relation import NoRelationConfig
from ssl_bf.relations.streams import Pairs
from ssl_bf.relations.surroundings import Samples
from ssl_bf.schedules import Elapsed
from tests.pairs import pair

N, WIDTH, OUT = 6, 8, 8
SAMPLES = Samples(torch.arange(N))
PAIRS: list[Pairs] = [
    *("plain_keys", "all", "matched", "plain_queries", "related"),
    ((0.5, 0.0), (2.0, 1.0)),
]
Place = Literal["projection", "backbone"]
PLACES: list[Place] = ["projection", "backbone"]
CONTEXT = StepContext(seed=1, step=4)


def build(relation: RelationConfig | None = None, **keys: Any) -> SimSiam:
    config = SimSiamConfig(
        **{"projection_dim": OUT, "hidden_dim": 8, "predictor_hidden_dim": 4, **keys}
    )
    return config.build(Start(nn.Identity(), WIDTH, relation or NoRelationConfig())).double()


def batchformer(**keys: Any) -> BatchFormerConfig:
    return BatchFormerConfig(**{"heads": 2, "context": 3, "dropout": 0.0, "pairs": "all", **keys})


def views(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn(2, N, WIDTH, generator=generator, dtype=torch.float64)
    return both[0], both[1]


def cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean cosine of rows, without any detaching."""
    product_of_lengths = prediction.norm(dim=1) * target.norm(dim=1)
    mean: Tensor = ((prediction * target).sum(dim=1) / product_of_lengths).mean()
    return mean


def from_constant_targets(method: SimSiam, view_1: Tensor, view_2: Tensor) -> Tensor:
    """The loss from its definition, with targets that are numbers from a pass of their own."""
    with torch.no_grad():
        targets = [method.project(v, SAMPLES, CONTEXT, n) for n, v in ((1, view_1), (2, view_2))]
    predictions = [
        method.predict(method.project(v, SAMPLES, CONTEXT, n))
        for n, v in ((1, view_1), (2, view_2))
    ]
    weights = method.relation.rules.weights
    total = torch.zeros((), dtype=torch.float64)
    for mine, other in ((0, 1), (1, 0)):
        for a, prediction in enumerate(predictions[mine]):
            for c, target in enumerate(targets[other]):
                total = total - weights[a][c] * cosine(prediction, target) / 2
    return total / sum(map(sum, weights))


@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("place", PLACES)
def test_the_loss_and_its_gradient_equal_the_definition_with_constant_targets(
    pairs: Pairs, place: Place
) -> None:
    method = build(batchformer(pairs=pairs, insert_at=place))
    view_1, view_2 = (view.requires_grad_() for view in views())
    trained = [p for p in method.parameters() if p.requires_grad] + [view_1, view_2]
    loss = method(pair(view_1, view_2), CONTEXT)
    expected = from_constant_targets(method, view_1, view_2)
    torch.testing.assert_close(loss, expected)
    assert -1 <= loss.item() <= 1
    for given, wanted in zip(
        torch.autograd.grad(loss, trained), torch.autograd.grad(expected, trained), strict=True
    ):
        torch.testing.assert_close(given, wanted, rtol=1e-9, atol=1e-12)


def test_without_the_stop_gradient_the_gradient_would_be_another() -> None:
    method = build(batchformer())
    view_1, view_2 = views()
    trained = [p for p in method.parameters() if p.requires_grad]
    given = torch.autograd.grad(method(pair(view_1, view_2), CONTEXT), trained)
    z_1, z_2 = (
        method.project(view_1, SAMPLES, CONTEXT, 1),
        method.project(view_2, SAMPLES, CONTEXT, 2),
    )
    p_1, p_2 = method.predict(z_1), method.predict(z_2)
    attached = torch.zeros((), dtype=torch.float64)
    for a, c in product(range(2), range(2)):
        attached = attached - (cosine(p_1[a], z_2[c]) + cosine(p_2[a], z_1[c])) / 8
    gradients = zip(given, torch.autograd.grad(attached, trained), strict=True)
    assert max((a - b).abs().max().item() for a, b in gradients) > 1e-3


def test_the_projections_kept_for_monitoring_hold_no_graph_and_follow_the_last_forward() -> None:
    method = build(batchformer())
    kept = []
    for seed in range(2):
        _, view_2 = views(seed)
        expected = method.project(view_2, SAMPLES, CONTEXT, 2).detach()
        method(pair(*views(seed)), CONTEXT)
        assert method.projections is not None
        assert method.projections.grad_fn is None
        assert torch.equal(method.projections, expected)
        kept.append(method.projections)
    assert not torch.equal(*kept)


def test_the_loss_is_minus_1_when_predictions_point_at_their_targets() -> None:
    method = build()
    method.predictor = nn.Sequential(nn.Identity())
    view, _ = views()
    assert method(pair(view, view)).item() == pytest.approx(-1)


def test_the_two_views_have_equal_rights() -> None:
    method = build(batchformer(context="local"))
    view_1, view_2 = views()
    torch.testing.assert_close(method(pair(view_1, view_2)), method(pair(view_2, view_1)))


@pytest.mark.parametrize("place", PLACES)
def test_a_relation_that_makes_no_predictions_is_not_trained(place: Place) -> None:
    method = build(batchformer(pairs="plain_queries", insert_at=place))
    projections = method.project(views()[0], SAMPLES, CONTEXT, 1)
    assert len(projections) == 2  # the targets are related all the same
    assert len(method.predict(projections)) == 1
    torch.autograd.backward(method(pair(*views()), CONTEXT))
    assert all(p.grad is None for p in method.relation.parameters())


RECENTRED: list[tuple[RelationConfig, bool]] = [
    (batchformer(), True),
    (SelfOnlyConfig(heads=2), True),
    (DropoutOnlyConfig(), True),
    (batchformer(insert_at="backbone"), False),
    (CopyConfig(), False),
    (NoRelationConfig(), False),
]


@pytest.mark.parametrize(("relation", "is_recentred"), RECENTRED)
def test_the_related_projection_alone_is_normalised_where_it_could_be_constant(
    relation: RelationConfig, is_recentred: bool
) -> None:
    method = build(relation)
    assert (method.recentre is not None) == is_recentred
    extra = {name.split(".")[0] for name in method.state_dict()} - {"projector", "predictor"}
    assert extra <= {"recentre", "relation"}
    with torch.random.fork_rng():
        torch.manual_seed(0)  # dropout
        projections = method.project(views()[0], SAMPLES, CONTEXT, 1)
    if is_recentred:
        torch.testing.assert_close(projections[1].mean(0), torch.zeros(OUT).double())
        torch.testing.assert_close(
            projections[1].var(0, correction=0), torch.ones(OUT).double(), rtol=0, atol=1e-3
        )
    if method.relation.rules.insert_at == "projection":
        assert torch.equal(projections[0], build().project(views()[0], SAMPLES, CONTEXT, 1)[0])


def test_a_constant_related_stream_does_not_satisfy_the_loss() -> None:
    method = build(batchformer(pairs="related"))

    class Constant(nn.Module):
        def forward(self, features: Tensor, order: Tensor | None, *, dropout: bool) -> Tensor:
            return torch.ones_like(features)

    method.relation.relating = Constant()
    assert method(pair(*views()), CONTEXT).item() == pytest.approx(0, abs=1e-9)
    method.recentre = None
    assert abs(method(pair(*views()), CONTEXT).item()) > 0.1


def test_the_projectors_last_bias_is_kept_and_frozen() -> None:
    method = build()
    bias = method.get_parameter("projector.6.bias")
    assert not bias.requires_grad
    given = {name for group in method.parameter_groups() for name, _ in group.parameters}
    assert "projector.6.bias" not in given
    before = method(pair(*views())).item()
    with torch.no_grad():
        bias.add_(3.0)
    assert math.isclose(
        method(pair(*views())).item(), before, rel_tol=1e-9
    )  # no effect in training


@pytest.mark.parametrize("constant", [True, False])
def test_the_predictors_learning_rate_is_constant_when_asked(constant: bool) -> None:
    method = build(batchformer(), constant_predictor_rate=constant)
    schedules = {
        name.split(".")[0]: group.schedule
        for group in method.parameter_groups()
        for name, _ in group.parameters
    }
    expected = "constant" if constant else "cosine"
    assert schedules == {"projector": "cosine", "predictor": expected, "relation": "cosine"}


def test_there_is_no_slow_copy_at_all() -> None:
    method = build(batchformer(parameters="ema"))
    assert method.slow_pairs() == method.relation.slow_pairs() == []
    before = {name: value.clone() for name, value in method.state_dict().items()}
    assert method.momentum is None
    assert method.scheduled_values(Elapsed(0.0, 1)) == {}
    method.after_step(Elapsed(0.0, 1))
    torch.testing.assert_close(dict(method.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize("parameters", ["ema", "shared", "frozen"])
def test_the_log_says_once_that_ema_and_shared_mean_the_same(
    parameters: Literal["ema", "shared", "frozen"],
) -> None:
    notes = build(batchformer(parameters=parameters)).notes()
    assert [("no key side" in note) for note in notes] == ([] if parameters == "frozen" else [True])
    assert build().notes() == []


@pytest.mark.parametrize(("hidden_layers", "linears"), [(1, 2), (2, 3)])
def test_the_projector_is_as_deep_as_configured(hidden_layers: int, linears: int) -> None:
    projector = build(hidden_layers=hidden_layers).projector
    assert len([m for m in projector.modules() if isinstance(m, nn.Linear)]) == linears

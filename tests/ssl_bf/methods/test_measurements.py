"""Tests of ssl_bf.methods.measurements against loops over single numbers."""

import math
import statistics

import pytest
import torch
from torch import Tensor, nn

from ssl_bf.losses.unit_length import unit_length
from ssl_bf.methods.measurements import context_gap, feature_std, gradient_norms

S, N, P, K = 2, 5, 4, 7


def randn(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def unit(row: list[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in row))
    return [value / length for value in row]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_feature_std_equals_the_definition() -> None:
    projections = randn(S, N, P, seed=1) + torch.tensor([0.0, 3.0])[:, None, None]
    values = feature_std(projections)
    for s in range(S):
        rows = [unit(row) for row in projections[s].tolist()]
        spread = [statistics.stdev(channel) for channel in zip(*rows, strict=True)]
        expected = math.sqrt(P) * sum(spread) / P
        assert values[f"feature_std/stream_{s}"] == pytest.approx(expected, rel=1e-12)
    assert len(values) == S


def test_feature_std_is_about_1_on_the_sphere_and_0_after_collapse() -> None:
    spread = randn(1, 400, 64, seed=1)
    collapsed = randn(1, 1, 64, seed=2) * torch.rand(1, 400, 1)
    values = feature_std(torch.cat([spread, collapsed]))
    assert values["feature_std/stream_0"] == pytest.approx(1, abs=0.02)
    assert values["feature_std/stream_1"] == pytest.approx(0, abs=1e-7)


def test_context_gap_equals_the_definition() -> None:
    queries = 3 * randn(S, N, P, seed=1)
    keys, queued = unit_length(randn(N, P, seed=2)), unit_length(randn(K, P, seed=3))
    values = context_gap(queries, keys, queued)
    for s in range(S):
        rows = [unit(row) for row in queries[s].tolist()]
        batch = [
            dot(rows[i], keys[j].tolist()) for i in range(N) for j in range(N) if i != j
        ]  # the own key is no other
        past = [dot(row, key) for row in rows for key in queued.tolist()]
        expected = sum(batch) / len(batch) - sum(past) / len(past)
        assert values[f"context_gap/stream_{s}"] == pytest.approx(expected, rel=1e-12)
    assert len(values) == S


def test_a_stream_that_knows_its_batch_has_a_gap_of_about_1() -> None:
    batch, past = torch.eye(2, dtype=torch.float64)
    keys, queued = batch.expand(N, 2), past.expand(K, 2)
    queries = torch.stack([batch.expand(N, 2), past.expand(N, 2)])
    values = context_gap(queries, keys, queued)
    assert values["context_gap/stream_0"] == pytest.approx(1)
    assert values["context_gap/stream_1"] == pytest.approx(-1)


def test_the_queue_may_be_float32_beside_float64_queries() -> None:
    queries, keys = randn(S, N, P, seed=1), unit_length(randn(N, P, seed=2))
    queued = unit_length(randn(K, P, seed=3))
    values = context_gap(queries, keys, queued.float())
    assert values == pytest.approx(context_gap(queries, keys, queued), abs=1e-6)


def test_gradient_norms_are_those_of_the_layers_of_a_network() -> None:
    network = nn.Module()
    network.cls_token = nn.Parameter(torch.zeros(3))
    network.frozen = nn.Linear(2, 2).requires_grad_(False)
    network.blocks = nn.ModuleList([nn.Linear(2, 3), nn.Linear(2, 3)])
    network.layer1 = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert gradient_norms(network) == {}  # no backward yet
    squares: dict[str, float] = {}
    for number, (name, p) in enumerate(network.named_parameters()):
        if p.requires_grad:
            p.grad = randn(*p.shape, seed=number).float()
            layer = name[:8] if name.startswith("blocks") else name.split(".")[0]
            found = [value**2 for value in p.grad.flatten().tolist()]
            squares[layer] = squares.get(layer, 0) + sum(found)
    assert squares.keys() == {"cls_token", "blocks.0", "blocks.1", "layer1"}
    norms = gradient_norms(network)
    assert list(norms) == [f"gradient_norm/{layer}" for layer in squares]
    for layer, square in squares.items():
        assert norms[f"gradient_norm/{layer}"] == pytest.approx(math.sqrt(square), rel=1e-6)

"""Tests of ssl_bf.relations.bgformer."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import StepContext
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.relations.batch_graphs import edges_between_equals, edges_to_nearest, normalised
from ssl_bf.relations.bgformer import BatchGraphBlock, BGFormer, BGFormerConfig, TopKAttention
from ssl_bf.relations.surroundings import Beside, Samples

N, D, HEADS = 8, 8, 2
SAMPLES = Samples(torch.arange(N))


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(**keys: Any) -> BGFormer:
    """Float64, away from the special values of the initialisation."""
    config = BGFormerConfig(**{"heads": HEADS, "context": "local", "top_k": 3, **keys})
    with initial_values(0, "relation"):
        module = config.relating(D).double()
        for p in module.parameters():
            with torch.no_grad():
                p.add_(0.3 * torch.randn(p.shape))
    assert isinstance(module, BGFormer)
    return module


def split_heads(x: Tensor) -> Tensor:
    return x.reshape(len(x), HEADS, D // HEADS)


def dense_attention(attention: TopKAttention, x: Tensor, top_k: int) -> Tensor:
    """Row by row and head by head, with the kept rows found by sorting."""
    query, key, value = (
        split_heads(functional.linear(x, weight, bias))
        for weight, bias in zip(
            attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True
        )
    )
    out = torch.zeros(len(x), HEADS, D // HEADS, dtype=x.dtype)
    for row in range(len(x)):
        for head in range(HEADS):
            scores = [
                (query[row, head] @ key[other, head]).item() / math.sqrt(D // HEADS)
                for other in range(len(x))
            ]
            kept = sorted(range(len(x)), key=lambda other: -scores[other])[:top_k]
            total = sum(math.exp(scores[other]) for other in kept)
            for other in kept:
                out[row, head] += math.exp(scores[other]) / total * value[other, head]
    projected: Tensor = attention.out_proj(out.flatten(1))
    return projected


def dense_block(block: Any, x: Tensor, graph: Tensor | None, top_k: int, weight: float) -> Tensor:
    nodes = block.norm1(x[None])[0]
    mixed = dense_attention(block.visual, nodes, top_k)
    if graph is not None:
        values = block.semantic_in(nodes)
        semantic = torch.stack(
            [sum(graph[u, v] * values[v] for v in range(len(x))) for u in range(len(x))]
        )
        mixed = weight * mixed + (1 - weight) * block.semantic_out(semantic)
    x = x + mixed
    hidden = functional.gelu(block.linear1(block.norm2(x[None])[0]))
    out: Tensor = x + block.linear2(hidden)
    return out


TEACHER = randn(N, D, seed=7)
LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 2, 2])
EDGES: dict[str, Tensor | None] = {
    "none": None,
    "teacher_knn": edges_to_nearest(TEACHER[None], 2)[0],
    "cluster": edges_between_equals(LABELS),
    "instance": torch.eye(N, dtype=torch.bool),
}
BESIDE = {"teacher_knn": TEACHER, "cluster": LABELS[:, None]}
OF_GRAPH: dict[str, dict[str, Any]] = {
    "none": {},
    "teacher_knn": {"graph_neighbours": 2, "visual_weight": 0.3},
    "cluster": {"clusters": 3, "visual_weight": 0.3},
    "instance": {"visual_weight": 0.3},
}


def related(module: BGFormer, x: Tensor, order: Tensor | None = None) -> Tensor:
    rows = BESIDE.get(module.config.graph)
    beside = None if rows is None else Beside(rows, torch.ones(N, dtype=torch.bool))
    out: Tensor = module(x, order, dropout=False, beside=beside)
    return out


@pytest.mark.parametrize("graph_norm", ["layer", "graphnorm"])
@pytest.mark.parametrize("graph", EDGES)
@pytest.mark.parametrize("layers", [1, 2])
def test_it_equals_a_dense_loop_with_explicit_top_k(
    graph: str, graph_norm: str, layers: int
) -> None:
    module = build(graph=graph, graph_norm=graph_norm, layers=layers, **OF_GRAPH[graph])
    edges = EDGES[graph]
    weights = None if edges is None else normalised(edges[None], torch.float64)[0]
    x = expected = randn(N, D)
    for block in module.blocks:
        expected = dense_block(block, expected, weights, top_k=3, weight=0.3)
    torch.testing.assert_close(related(module, x), expected)


def test_groups_equal_the_module_on_each_group() -> None:
    whole, groups = build(), build(context=4)
    x, order = randn(N, D), torch.tensor([3, 7, 0, 4, 6, 1, 2, 5])
    out = related(groups, x, order)
    for rows in order.reshape(2, 4):
        torch.testing.assert_close(out[rows], related(whole, x[rows]))


def test_a_row_keeps_at_most_k_weights_that_sum_to_1() -> None:
    attention = TopKAttention(D, HEADS, 3).double()
    query, key = randn(2, HEADS, N, 4, seed=1), randn(2, HEADS, N, 4, seed=2)
    weights = attention.weights(query, key)
    assert ((weights > 0).sum(dim=3) == 3).all()
    torch.testing.assert_close(weights.sum(dim=3), torch.ones(2, HEADS, N, dtype=torch.float64))
    scores = query @ key.transpose(2, 3)
    assert torch.equal((weights > 0), scores >= scores.topk(3, dim=3).values[..., -1:])


@pytest.mark.parametrize("top_k", [N, N + 5])
def test_with_all_rows_kept_it_is_dense_attention(top_k: int) -> None:
    module = build(top_k=top_k)
    [block] = module.blocks
    assert isinstance(block, BatchGraphBlock)
    dense = nn.MultiheadAttention(D, HEADS, batch_first=True).double()
    dense.load_state_dict(block.visual.state_dict())
    x = randn(N, D)
    nodes = block.norm1(x)[None]
    torch.testing.assert_close(block.visual(nodes, 0.0), dense(nodes, nodes, nodes)[0])


def test_a_small_batch_leaves_k_as_it_is() -> None:
    module, x = build(top_k=5), randn(N, D)
    before = related(module, x)
    related(module, x[:2])
    assert torch.equal(related(module, x), before)
    assert not torch.allclose(before, related(build(top_k=2), x))


def test_without_a_graph_there_is_no_semantic_branch() -> None:
    assert not any("semantic" in name for name, _ in build().named_parameters())
    assert any("semantic" in name for name, _ in build(graph="instance").named_parameters())


def test_with_single_rows_as_graph_no_row_reaches_another_through_it() -> None:
    module = build(graph="instance", visual_weight=0.0)
    x = randn(N, D).requires_grad_()
    (gradient,) = torch.autograd.grad((related(module, x)[2] * randn(D, seed=3)).sum(), x)
    assert (gradient.abs().amax(dim=1) > 0).tolist() == [row == 2 for row in range(N)]


def test_no_gradient_reaches_the_teacher_and_keys_are_their_own() -> None:
    keys: dict[str, Any] = {"graph": "teacher_knn", "graph_neighbours": 1, "pairs": "all"}
    config = BGFormerConfig(heads=HEADS, context=4, top_k=3, **keys)
    relation = config.build(D, D, has_key_side=True).double()
    slow, fast = randn(N, D, seed=1), randn(N, D, seed=2).requires_grad_()
    relation.keys(slow, SAMPLES, StepContext(), 1)
    first = relation.queries(fast, SAMPLES, StepContext(), 1)[1]
    relation.keys(randn(N, D, seed=3), SAMPLES, StepContext(), 1)
    assert not torch.allclose(relation.queries(fast, SAMPLES, StepContext(), 1)[1], first)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"top_k": 0}, "top_k: must be >= 1, got 0"),
        ({"heads": 0}, "heads: must be >= 1, got 0"),
        ({"dropout": 1.0}, r"dropout: must lie in \[0, 1\)"),
        ({"feedforward": 0.0}, "feedforward: must be > 0"),
        ({"context": 1}, "context: a group needs at least 2 rows"),
        ({"visual_weight": 0.5}, "visual_weight: does nothing with graph=none"),
        ({"graph": "cluster", "graph_neighbours": 3}, "graph_neighbours: does nothing with"),
        ({"graph": "teacher_knn", "clusters": 3}, "clusters: does nothing with graph=teacher_knn"),
        ({"graph": "cluster", "clusters": 0}, "clusters: must be >= 1"),
        ({"graph": "instance", "visual_weight": 1.5}, r"visual_weight: must lie in \[0, 1\]"),
    ],
)
def test_values_without_meaning_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        BGFormerConfig(**keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"top_k": 5, "context": 4}, r"relation\.top_k: 5 is above the 4 rows"),
        ({"top_k": 9, "context": "local"}, r"relation\.top_k: 9 is above the 8 rows"),
        (
            {"context": 4, "top_k": 4, "graph": "teacher_knn"},
            r"relation\.graph_neighbours: 4 is above the 3 other rows",
        ),
    ],
)
def test_more_neighbours_than_rows_are_refused(keys: dict[str, Any], message: str) -> None:
    relation = BGFormerConfig(heads=HEADS, **keys).build(D, D, has_key_side=True)
    with pytest.raises(InputError, match=message) as error:
        relation.check_batch(N, 4)
    assert "\n" not in str(error.value)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(InputError, match=r"relation\.heads: 3 heads do not divide the width 8"):
        BGFormerConfig(heads=3).build(D, D, has_key_side=True)

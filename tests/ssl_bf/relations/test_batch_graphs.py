"""Tests of ssl_bf.relations.batch_graphs."""

import pytest
import torch
from torch import Tensor

from ssl_bf.losses.unit_length import unit_length
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.relations.batch_graphs import (
    Clusters,
    Teacher,
    edges_between_equals,
    edges_to_nearest,
    normalised,
)
from ssl_bf.relations.surroundings import Samples

N, D = 12, 6
SAMPLES = Samples(torch.arange(N))


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_normalised_graph_is_symmetric_and_of_classes_a_mean() -> None:
    labels = torch.tensor([[0, 1, 0, 2, 1, 0], [3, 3, 3, 3, 3, 3]])
    graph = normalised(edges_between_equals(labels), torch.float64)
    assert torch.equal(graph, graph.transpose(1, 2))
    torch.testing.assert_close(graph.sum(dim=2), torch.ones(2, 6, dtype=torch.float64))
    # Three rows of class 0: S is 2 on the diagonal and 1 beside it, its row sums are 4.
    expected = torch.tensor([2, 0, 1, 0, 0, 1], dtype=torch.float64) / 4
    torch.testing.assert_close(graph[0, 0], expected)
    assert graph[0, 3, 3].item() == pytest.approx(1)


@pytest.mark.parametrize("count", [1, 3, 50])
def test_edges_to_the_nearest_equal_a_loop(count: int) -> None:
    rows = randn(2, N, D)
    found = edges_to_nearest(rows, count)
    for group, edges in zip(rows, found, strict=True):
        unit = unit_length(group)
        expected = torch.eye(N, dtype=torch.bool)
        for u in range(N):
            by_similarity = sorted(
                (v for v in range(N) if v != u), key=lambda v: -(unit[u] @ unit[v])
            )
            for v in by_similarity[:count]:
                expected[u, v] = expected[v, u] = True
        assert torch.equal(edges, expected)
    graph = normalised(found)
    assert torch.equal(graph, graph.transpose(1, 2))


def test_the_teacher_is_the_slow_network_where_there_is_one() -> None:
    fast, slow, other = (randn(N, D, seed=seed) for seed in range(3))
    teacher = Teacher(has_key_side=True)
    teacher.observe(slow, SAMPLES, "key", 1)
    teacher.observe(other, SAMPLES, "key", 2)
    teacher.observe(fast, SAMPLES, "query", 1)
    assert torch.equal(teacher.beside(fast, SAMPLES, "query", 1).rows, slow)
    assert torch.equal(teacher.beside(slow, SAMPLES, "key", 1).rows, slow)
    alone = Teacher(has_key_side=False)
    alone.observe(fast.requires_grad_(), SAMPLES, "query", 1)
    rows = alone.beside(fast, SAMPLES, "query", 1).rows
    assert torch.equal(rows, fast) and not rows.requires_grad
    teacher.after_step()
    assert teacher.noted == {}


def clusters(count: int = 3) -> Clusters:
    with initial_values(0, "relation"):
        return Clusters(D, count, has_key_side=True).double()


def test_rows_that_lie_together_get_one_label_and_share_the_centres() -> None:
    directions = torch.eye(D, dtype=torch.float64)[:3]
    rows = (directions.repeat_interleave(4, dim=0) + 0.05 * randn(N, D)) * 3
    found = clusters()
    found.centres.copy_(unit_length(directions + 0.3 * randn(3, D, seed=1)))
    for _ in range(60):
        found.observe(rows, SAMPLES, "key", 1)
        found.after_step()
    labels = found.labels(rows).reshape(3, 4)
    assert (labels == labels[:, :1]).all()
    assert len(set(labels[:, 0].tolist())) == 3
    means = unit_length(unit_length(rows).reshape(3, 4, D).sum(dim=1))
    torch.testing.assert_close(found.centres[labels[:, 0]], means, rtol=0, atol=0.01)
    beside = found.beside(rows, SAMPLES, "key", 1)
    assert torch.equal(beside.rows[:, 0], found.labels(rows))


def test_a_centre_without_rows_stays_and_nothing_moves_before_the_step_is_over() -> None:
    found, rows = clusters(count=5), randn(1, D).expand(2, D)
    before = found.centres.clone()
    found.observe(rows, SAMPLES, "key", 1)
    assert torch.equal(found.centres, before)
    found.after_step()
    moved = (found.centres != before).any(dim=1)
    assert moved.sum() == len(found.labels(rows).unique())
    torch.testing.assert_close(found.centres.norm(dim=1), torch.ones(5, dtype=torch.float64))
    found.after_step()
    assert torch.equal((found.centres != before).any(dim=1), moved)


def test_labels_do_not_depend_on_the_order_of_the_rows() -> None:
    found, rows = clusters(), randn(N, D)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    assert torch.equal(found.labels(rows[order]), found.labels(rows)[order])

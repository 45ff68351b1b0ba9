"""Tests of ssl_bf.relations.neighbour_memory, and of BatchFormer on it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import StepContext
from ssl_bf.losses.unit_length import unit_length
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.relations.batchformer import (
    BatchFormerConfig,
    BatchTransformer,
    NeighbourTransformer,
)
from ssl_bf.relations.neighbour_memory import NeighbourMemory
from ssl_bf.relations.relation import Relation
from ssl_bf.relations.surroundings import Samples

N, D, MEMORY = 6, 8, 18
SAMPLES = Samples(torch.arange(N))


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def images(*ids: int) -> Samples:
    return Samples(torch.tensor(ids))


def memory(
    neighbours: int = 3, size: int = MEMORY, *, has_key_side: bool = True
) -> NeighbourMemory:
    with initial_values(0, "relation"):
        return NeighbourMemory(D, neighbours, size, has_key_side=has_key_side).double()


def remember(found: NeighbourMemory, rows: Tensor, *ids: int) -> None:
    found.observe(rows, images(*ids), "key", 1)
    found.after_step()


def test_neighbours_are_the_most_similar_rows_of_other_images_as_long_as_the_row() -> None:
    found, rows = memory(), 3 * randn(N, D)
    held = [(randn(N, D, seed=seed), [0, 1, 2, 3, 10 + seed, 20 + seed]) for seed in (1, 2)]
    for keys, ids in held:
        remember(found, keys, *ids)
    beside = found.beside(rows, SAMPLES, "query", 1)
    for row in range(N):
        others = [
            (float(unit_length(rows[row]) @ unit_length(key)), unit_length(key) * rows[row].norm())
            for keys, ids in held
            for key, image in zip(keys, ids, strict=True)
            if image != row
        ]
        others.sort(key=lambda pair: -pair[0])
        expected = torch.stack([key for _, key in others[:3]])
        torch.testing.assert_close(beside.rows[row], expected)
    assert beside.seen.all()


def test_what_was_never_written_and_the_rows_own_image_are_no_neighbours() -> None:
    found, rows = memory(neighbours=4), randn(N, D)
    assert not found.beside(rows, SAMPLES, "query", 1).seen.any()
    remember(found, rows, *range(N))
    seen = found.beside(rows[:2], images(0, 9), "query", 1).seen
    assert seen.all()
    small = memory(neighbours=4)
    remember(small, rows[:3], 0, 1, 2)
    seen = small.beside(rows[:2], images(0, 9), "query", 1).seen
    assert seen.tolist() == [[True, True, False, False], [True, True, True, False]]


def test_it_holds_the_last_view_of_the_key_side_after_the_step() -> None:
    found = memory(size=N)
    before = found.queue.keys.clone()
    first, last = randn(N, D, seed=1), randn(N, D, seed=2)
    found.observe(first, SAMPLES, "key", 1)
    found.observe(last, SAMPLES, "key", 2)
    found.observe(randn(N, D, seed=3), SAMPLES, "query", 1)
    assert torch.equal(found.queue.keys, before)
    found.after_step()
    torch.testing.assert_close(found.queue.keys, unit_length(last))
    alone = memory(size=N, has_key_side=False)
    alone.observe(first, SAMPLES, "query", 1)
    alone.after_step()
    torch.testing.assert_close(alone.queue.keys, unit_length(first))


def relation(layers: int = 1, **keys: Any) -> Relation:
    given = {"context": "neighbours", "neighbours": 3, "memory": MEMORY, "dropout": 0.0, **keys}
    with initial_values(0, "relation"):
        return BatchFormerConfig(layers=layers, **given).build(D, D, has_key_side=True).double()


def test_batchformer_attends_to_a_row_and_its_neighbours() -> None:
    """The oracle is BatchFormer on one sequence per row."""
    built, rows = relation(), randn(N, D)
    assert isinstance(built.surroundings, NeighbourMemory)
    assert isinstance(built.relating, NeighbourTransformer)
    remember(built.surroundings, randn(N, D, seed=4), *range(10, 10 + N))
    oracle = BatchFormerConfig(context="local", dropout=0.0).relating(D).double()
    assert isinstance(oracle, BatchTransformer)
    oracle.load_state_dict(built.relating.state_dict())
    beside = built.surroundings.beside(rows, SAMPLES, "query", 1)
    out = built.queries(rows, SAMPLES, StepContext(), 1)[1]
    for row in range(N):
        sequence = torch.cat([rows[row : row + 1], beside.rows[row]])
        torch.testing.assert_close(out[row], oracle(sequence, None, dropout=False)[0])


@pytest.mark.parametrize("layers", [1, 2])
def test_without_neighbours_a_row_is_alone_and_no_gradient_crosses(layers: int) -> None:
    built, rows = relation(layers), randn(N, D).requires_grad_()
    alone = BatchFormerConfig(context="local", dropout=0.0, layers=layers).relating(D).double()
    assert built.relating is not None
    alone.load_state_dict(built.relating.state_dict())
    out = built.queries(rows, SAMPLES, StepContext(), 1)[1]
    for row in range(N):
        expected = alone(rows[row : row + 1], None, dropout=False)[0]
        torch.testing.assert_close(out[row], expected)
    assert isinstance(built.surroundings, NeighbourMemory)
    remember(built.surroundings, rows, *range(10, 10 + N))
    out = built.queries(rows, SAMPLES, StepContext(), 1)[1]
    (gradient,) = torch.autograd.grad((out[2] * randn(D, seed=3)).sum(), rows)
    assert (gradient.abs().amax(dim=1) > 0).tolist() == [row == 2 for row in range(N)]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"neighbours": 0, "context": "neighbours"}, "neighbours: must be >= 1, got 0"),
        (
            {"neighbours": 9, "memory": 8, "context": "neighbours"},
            r"neighbours: must be at most memory \(8\), got 9",
        ),
        ({"neighbours": 9}, "neighbours: does nothing with context=32"),
        ({"memory": 9, "context": "local"}, "memory: does nothing with context=local"),
    ],
)
def test_values_without_meaning_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        BatchFormerConfig(**keys)


def test_a_memory_smaller_than_a_step_is_refused() -> None:
    built = relation()
    built.check_batch(9, 2)
    with pytest.raises(
        InputError, match=r"^relation\.memory: 18 rows do not hold the 20 of one step"
    ):
        built.check_batch(10, 2)

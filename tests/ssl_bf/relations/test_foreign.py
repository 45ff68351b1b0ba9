"""Tests of ssl_bf.relations.foreign."""

from typing import Any

import pytest
import torch
from torch import Tensor

from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import StepContext
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.parts.key_queue import NO_IMAGE
from ssl_bf.relations.batchformer import BatchFormerConfig, BatchTransformer
from ssl_bf.relations.foreign import ForeignConfig, ForeignTransformer
from ssl_bf.relations.relation import Relation
from ssl_bf.relations.surroundings import Samples

N, D, GROUP = 12, 8, 4
SAMPLES = Samples(torch.arange(N))
BEFORE = Samples(torch.arange(N) + N)  # the images of the previous step
FIRST, SECOND = StepContext(step=0), StepContext(step=1)


def build(config: Any) -> Relation:
    with initial_values(0, "relation"):
        relation = config.build(D, D, has_key_side=True).double()
    relation.make_room(N, 2)
    assert isinstance(relation, Relation)
    return relation


def foreign(**keys: Any) -> Relation:
    return build(ForeignConfig(**{"dropout": 0.0, "context": GROUP, **keys}))


def features(seed: int) -> Tensor:
    return torch.randn(N, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def after_first_step(relation: Relation, seed: int = 0) -> Relation:
    relation.queries(features(seed), BEFORE, FIRST, 1)
    relation.after_step()
    return relation


def test_it_starts_with_the_very_parameters_of_batchformer() -> None:
    expected = build(BatchFormerConfig()).state_dict()
    found = foreign().state_dict()
    assert set(found) - set(expected) == {"surroundings.rows_query", "surroundings.images_query"}
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("context", [GROUP, "local", "global"])
def test_each_row_attends_to_itself_and_to_a_group_of_the_previous_batch(context: Any) -> None:
    """The oracle is BatchFormer on one sequence per row: its group of the other batch, and it."""
    relation, x = after_first_step(foreign(context=context)), features(1)
    out = relation.queries(x, SAMPLES, SECOND, 1)[1]
    oracle = BatchFormerConfig(context="local", dropout=0.0).relating(D).double()
    assert isinstance(oracle, BatchTransformer)
    assert isinstance(relation.relating, ForeignTransformer)
    oracle.load_state_dict(relation.relating.state_dict())
    group = GROUP if context == GROUP else N
    order = torch.arange(N) if context != GROUP else SECOND.permutation("groups/query/1", N)
    for place, row in enumerate(order):
        start = place - place % group
        sequence = features(0)[start : start + group].clone()
        sequence[place - start] = x[row]
        expected = oracle(sequence, None, dropout=False)[place - start]
        torch.testing.assert_close(out[row], expected)


def test_without_a_previous_batch_each_row_sees_itself() -> None:
    relation, x = foreign(layers=2), features(1)
    alone = build(BatchFormerConfig(context="local", dropout=0.0, layers=2))
    out = relation.queries(x, SAMPLES, FIRST, 1)[1]
    for row in range(N):
        torch.testing.assert_close(
            out[row : row + 1], alone.queries(x[row : row + 1], SAMPLES, FIRST, 1)[1]
        )


@pytest.mark.parametrize("layers", [1, 2])
def test_no_gradient_crosses_between_rows(layers: int) -> None:
    relation = after_first_step(foreign(layers=layers, context="local"))
    x = features(1).requires_grad_()
    out = relation.queries(x, SAMPLES, SECOND, 1)[1]
    (gradient,) = torch.autograd.grad((out[3] * features(5)[0]).sum(), x)
    assert (gradient.abs().amax(dim=1) > 0).tolist() == [row == 3 for row in range(N)]
    other = after_first_step(foreign(layers=layers, context="local"), seed=8)
    assert not torch.allclose(other.queries(x, SAMPLES, SECOND, 1)[1], out)


def test_the_sides_have_each_their_previous_batch_and_it_is_that_of_the_last_step() -> None:
    relation = foreign(pairs="all")
    (
        relation.queries(features(0), SAMPLES, FIRST, 1),
        relation.queries(features(1), SAMPLES, FIRST, 2),
    )
    relation.keys(features(2), SAMPLES, FIRST, 1), relation.keys(features(3), SAMPLES, FIRST, 2)
    before = {name: value.clone() for name, value in relation.named_buffers()}
    assert not any(value.any() for name, value in before.items() if "rows" in name)
    assert all((value == NO_IMAGE).all() for name, value in before.items() if "images" in name)
    relation.after_step()
    found = dict(relation.named_buffers())
    assert torch.equal(found["surroundings.rows_query"], features(1))
    assert torch.equal(found["surroundings.rows_key"], features(3))
    assert torch.equal(found["surroundings.images_key"], SAMPLES.image_ids)
    relation.eval().queries(features(4), SAMPLES, SECOND, 1)
    relation.after_step()
    assert torch.equal(relation.get_buffer("surroundings.rows_query"), features(1))


@pytest.mark.parametrize("context", [GROUP, "local"])
def test_a_row_never_sees_its_own_older_copy_across_the_border_of_an_epoch(context: Any) -> None:
    """An image that ended the last epoch begins this one: its old row would be its answer."""
    group = N if context == "local" else GROUP
    order = torch.arange(N) if context == "local" else SECOND.permutation("groups/query/1", N)
    place = int((order == 5).nonzero())
    old = place - place % group + (place + 1) % group  # in its group, and not at its own place
    again = BEFORE.image_ids.clone()
    again[old] = 5
    reached = []
    for ids in (BEFORE, Samples(again)):
        related = []
        for change in (0.0, 1.0):
            relation, rows = foreign(context=context), features(0)
            rows[old, 0] += change
            relation.queries(rows, ids, FIRST, 1)
            relation.after_step()
            related.append(relation.queries(features(1), SAMPLES, SECOND, 1)[1])
        reached.append((related[0] != related[1]).any(dim=1))
    another, its_own = reached
    assert another[5] and not its_own[5]
    its_own[5] = True
    assert torch.equal(its_own, another)


def test_one_batch_per_epoch_is_refused() -> None:
    with pytest.raises(InputError, match=r"^relation\.name: foreign needs another batch") as error:
        foreign().check_steps(steps_per_epoch=1, total_steps=10)
    assert "\n" not in str(error.value)
    foreign().check_steps(steps_per_epoch=2, total_steps=20)


def test_a_group_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="context: a group needs at least 2 rows"):
        ForeignConfig(context=1)

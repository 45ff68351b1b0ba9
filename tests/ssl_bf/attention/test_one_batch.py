"""Tests of ssl_bf.attention.one_batch: whose attention is shown, of every relation."""

from pathlib import Path
from typing import Any

import pytest
import torch

from linear_eval.strict_config.reader import parse_config
from linear_eval.system.errors import InputError
from ssl_bf.attention.one_batch import RelatedBatch, relate_one_batch
from ssl_bf.build import Run, build_run
from ssl_bf.config import PretrainConfig
from ssl_bf.keyed_random import StepContext
from ssl_bf.relations.relation import Relation
from tests.tiny_run import TINY

N = 16
RELATIONS = {
    "batchformer": ["context=8"],
    "batchformer local": ["context=local", "layers=2", "residual=gate"],
    "batchformer neighbours": ["context=neighbours", "neighbours=3", "memory=32"],
    "batchformer_v2": ["context=8", "insert_at=tokens", "insert_after=[3,4]"],
    "batchformer_v2 foreign": ["context=8", "insert_at=tokens", "attention=foreign"],
    "bgformer": ["context=8", "top_k=2", "graph=teacher_knn"],
    "uniform": ["context=8"],
    "foreign": ["context=8"],
    "self_only": [],
    "nearest_keys": ["neighbours=3", "memory=32", "pairs=plain_queries"],
    "copy": [],
    "dropout_only": [],
}


def build(relation: str, *overrides: str, keys: list[str] | None = None) -> Run:
    name = relation.split()[0]
    keys = RELATIONS[relation] if keys is None else keys
    given = ["data.train_images=40", "data.holdout=0", f"relation.name={name}"]
    given += [*(f"relation.{key}" for key in keys), *overrides]
    base = {**TINY, "relation": {"name": "none"}, "speed": {"device": "cpu", "threads": 1}}
    run = build_run(parse_config(PretrainConfig, base, given).value)
    torch.manual_seed(0)
    with torch.no_grad():  # attention of fresh parameters is nearly equal everywhere
        for p in run.method.relation.parameters():
            p.add_(0.3 * torch.randn(p.shape))
    return run


def look(run: Run, step: int = 2) -> RelatedBatch:
    """After one step that lets surroundings know a batch."""
    with run.loader, torch.no_grad():
        run.method(run.loader.batch(step - 1), StepContext(step=step - 1, elapsed=0.2))
        run.method.relation.after_step()
        return relate_one_batch(run, step)


@pytest.mark.parametrize("relation", RELATIONS)
def test_it_is_the_batch_of_the_next_step_with_weights_that_sum_to_1(relation: str) -> None:
    run = build(relation)
    found = look(run)
    with run.loader:
        expected = run.loader.batch(2).image_ids
    assert torch.equal(found.images, expected)
    assert torch.equal(found.members.flatten().sort().values, torch.arange(N))
    assert found.cosines.shape == (N,)
    assert bool(found.layers) == (relation not in ("copy", "dropout_only"))
    for layer in found.layers:
        (count, _, group, columns), total = layer.weights.shape, layer.weights.sum(dim=3)
        assert found.members.shape == (count, group)
        assert found.columns.shape == (count, columns)
        torch.testing.assert_close(total, torch.ones_like(total))
        unseen = layer.weights.masked_fill(layer.seen.expand_as(layer.weights), 0.0)
        assert float(unseen.max()) == 0


@pytest.mark.parametrize("relation", ["batchformer", "batchformer local", "bgformer", "uniform"])
def test_a_row_depends_on_the_rows_that_it_attends_to_and_on_no_others(relation: str) -> None:
    run = build(
        relation, keys=[k for k in RELATIONS[relation] if k[:6] not in ("graph=", "layers")]
    )
    found = look(run)
    related = run.method.relation
    assert isinstance(related, Relation) and related.noted is not None
    relating, order = related.relating, related.noted.order
    assert relating is not None

    def of(rows: torch.Tensor) -> torch.Tensor:
        out = relating(rows, order, dropout=False)
        assert isinstance(out, torch.Tensor)
        return out

    slopes = torch.autograd.functional.jacobian(of, related.noted.streams[0])
    depends = slopes.abs().sum(dim=(1, 3)) > 0  # (N, N)
    attends = torch.zeros(N, N, dtype=torch.bool)
    for members, weights in zip(found.members, found.layers[0].weights, strict=True):
        attends[members[:, None], members] = weights.amax(dim=0) > 0
    attends |= torch.eye(N, dtype=torch.bool)  # by the shortcut around the attention
    assert torch.equal(depends, attends)


def test_foreign_shows_the_images_of_the_batch_before_and_neighbours_those_of_the_memory() -> None:
    for name in ("foreign", "batchformer_v2 foreign"):
        run = build(name)
        found = look(run)
        with run.loader:
            before = run.loader.batch(1).image_ids
        assert torch.equal(found.columns[:, 8:].flatten(), before)
    found = look(build("batchformer neighbours"))
    assert torch.equal(found.columns[:, 0], found.images)
    assert set(found.columns[:, 1:].flatten().tolist()) <= set(before.tolist()) | {-1}


@pytest.mark.parametrize("name", ["foreign", "batchformer_v2 foreign"])
def test_foreign_names_the_images_that_it_keeps(name: str) -> None:
    """Behind the steps in which it acts, and in the order of keys that were shuffled."""
    keys = [*RELATIONS[name], "active=[0.0, 0.5]"]
    run = build(name, keys=keys)
    look(run)
    with run.loader, torch.no_grad():
        run.method(run.loader.batch(2), StepContext(step=2, elapsed=0.9))
        run.method.relation.after_step()
        found = relate_one_batch(run, 3)
    assert torch.equal(found.columns[:, 8:].flatten(), kept(run, "query"))
    keys = [*RELATIONS[name], "pairs=plain_queries"]
    shuffled = ["method.name=moco_v2", "method.queue_size=32", "method.batch_norm=groups:2"]
    run = build(name, *shuffled, keys=keys)
    assert torch.equal(look(run).columns[:, 8:].flatten(), kept(run, "key"))


def kept(run: Run, side: str) -> torch.Tensor:
    """Ids of the images of the batch that is kept, before the step that is looked at."""
    held = run.method.relation.named_buffers()
    [ids] = [value for name, value in held if name.endswith(f"images_{side}")]
    return ids


def test_self_only_attends_to_itself_and_uniform_to_all_alike() -> None:
    assert float(look(build("self_only")).layers[0].weights.min()) == 1
    layer = look(build("uniform")).layers[0]
    torch.testing.assert_close(layer.weights, torch.full_like(layer.weights, 1 / 8))


def test_nearest_keys_leave_the_row_itself_out_unless_there_is_no_other() -> None:
    run = build("nearest_keys")
    assert float(look(run).layers[0].weights[..., 0].max()) == 0
    with run.loader:
        fresh = relate_one_batch(build("nearest_keys"), 2)
    assert float(fresh.layers[0].weights[..., 0].min()) == 1


def test_dropout_is_off_and_two_looks_are_equal() -> None:
    first, second = (look(build("batchformer_v2")) for _ in range(2))
    torch.testing.assert_close(first.layers, second.layers, rtol=0, atol=0)
    copied = look(build("dropout_only"))
    torch.testing.assert_close(copied.cosines, torch.ones(N))
    assert copied.notes[0] == "dropout of the relation is off"


def test_outside_its_share_of_training_the_relation_is_asked_all_the_same() -> None:
    found = look(build("batchformer", keys=["context=8", "active=[0, 0.25]"]))
    assert found.notes[1:] == [
        "the relation acts in [0.0, 0.25] of training only, and is asked here too"
    ]
    assert found.layers


@pytest.mark.parametrize("relation", RELATIONS)
def test_of_several_shards_the_share_of_the_first_is_shown(relation: str) -> None:
    run = build(relation, "shards=2")
    with run.loader:
        found = relate_one_batch(run, 2, shards=2)
        whole = run.loader.batch(2).image_ids
    assert torch.equal(found.images, whole[:8])
    assert found.notes[-1] == "the share of the first of 2 shards"


def test_without_relation_there_is_nothing_to_see(tmp_path: Path) -> None:
    run = build("none", keys=[])
    with run.loader, pytest.raises(InputError, match=r"^relation\.name: this run has no relation"):
        relate_one_batch(run, 2)


@pytest.mark.parametrize("relation", RELATIONS)
def test_asking_changes_nothing(relation: str) -> None:
    run = build(relation)
    look(run)
    related = run.method.relation
    noted: Any = related.noted
    if noted.inside or related.relating is None:
        return
    seen = {} if noted.beside is None else {"beside": noted.beside}
    lists: list[list[Any] | None] = [[], None]
    out = [
        related.relating(noted.streams[0], noted.order, dropout=False, attention=asked, **seen)
        for asked in lists
    ]
    assert torch.equal(*out)

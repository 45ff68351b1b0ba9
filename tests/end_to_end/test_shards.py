"""One process that holds all shards of a batch, and two processes that share them.

Dropout, shuffles and BatchNorm are on: whatever belongs to a shard must not belong to a process.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from linear_eval.system.distributed import rank, world_size
from ssl_bf.keyed_random import StepContext, key
from ssl_bf.methods import MethodConfig
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.method import Method, Start
from ssl_bf.optimizers import SgdConfig, build_optimizer
from ssl_bf.ranks.sharded_step import ShardedStep
from ssl_bf.relations import RelationConfig
from ssl_bf.relations.batchformer import BatchFormerConfig
from ssl_bf.relations.bgformer import BGFormerConfig
from ssl_bf.relations.foreign import ForeignConfig
from ssl_bf.relations.no_relation import NoRelationConfig
from ssl_bf.schedules import Elapsed
from ssl_bf.shards.shard import computing
from ssl_bf.shards.turns import HeldShards
from tests.end_to_end.test_two_processes import (
    CLASSES,
    MOCO_V2,
    MOCO_V3,
    SIMSIAM,
    STEPS,
    WIDTH,
    assert_same,
    backbone,
)
from tests.two_gloo_processes import Result, TwoProcesses

pytestmark = pytest.mark.dist
N, LOCAL = 16, 4  # images of a batch, and of one of four shards


def batch_of(step: int) -> Batch:
    """The share of this process."""
    generator = torch.Generator().manual_seed(step)
    views = torch.randn(2, N, 3, 2, 2, generator=generator, dtype=torch.float64)
    ids = (torch.arange(N) * 3 + step) % 23  # some images come back in the next step
    return Batch((views[0], views[1]), ids).map(lambda rows: rows.chunk(world_size())[rank()])


def train(config: MethodConfig, relation: RelationConfig, how: str, count: int) -> Result:
    """Some steps on `count` shards; `how` gradients are added: `ddp` needs a process for each."""
    method: Method = config.build(Start(backbone(batch_norm=True), WIDTH, relation, 2, CLASSES))
    method.double()
    shards = HeldShards(count)
    with computing(shards.first()):
        method.check_batch(N // count, count)
        method.relation.make_room(N // count, 2)
    optimizer = build_optimizer(SgdConfig(), method.parameter_groups())
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    sharded = ShardedStep(method, optimizer, shards, in_bf16=False, is_ordered=how == "ordered")
    model: nn.Module = method
    if how == "ddp":
        assert world_size() == count
        model = DistributedDataParallel(method, broadcast_buffers=False)
    result: Result = {}
    for step in range(STEPS):
        batch, context = batch_of(step), StepContext(seed=1, step=step, shard=rank())
        progress = Elapsed(float(step + 1), STEPS)
        if how == "ddp":
            optimizer.zero_grad()
            torch.manual_seed(key(1, "dropout", step, rank()))
            torch.autograd.backward(model(batch, context))
            optimizer.step()
            method.after_step(progress)
            measured = method.measurements()
        else:
            result[f"loss of step {step}"] = sharded.update(batch, context, progress)
            measured = sharded.measurements()
    result |= {f"measured {name}": torch.tensor(value) for name, value in measured.items()}
    return result | {name: value.clone() for name, value in method.state_dict().items()}


def batchformer(**keys: Any) -> BatchFormerConfig:
    return BatchFormerConfig(**{"heads": 2, "dropout": 0.3, "pairs": "all", **keys})


METHODS: dict[str, MethodConfig] = {
    "moco_v2": replace(MOCO_V2, symmetric=True, in_batch_negatives=True),  # BatchNorm local
    "moco_v3": MOCO_V3,  # synchronised
    "simsiam": SIMSIAM,
}
RELATIONS: dict[str, RelationConfig] = {
    "none": NoRelationConfig(),
    "groups": batchformer(context=LOCAL // 2),
    "local": batchformer(context="local"),
    "global": batchformer(context="global"),
}


def without_losses(result: Result) -> Result:
    return {name: value for name, value in result.items() if not name.startswith("loss")}


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("method", METHODS)
def test_added_in_order_not_a_bit_depends_on_the_number_of_processes(
    two_processes: TwoProcesses, method: str, relation: str
) -> None:
    what = METHODS[method], RELATIONS[relation], "ordered", 4  # two can be added in either order
    ours = train(*what)
    for place, theirs in enumerate(two_processes(train, *what)):
        assert theirs.keys() == ours.keys()
        for name, value in ours.items():
            is_of_first_shard = "running_" in name or name.startswith("measured")
            if place == 0 or not is_of_first_shard:
                assert torch.equal(theirs[name], value), name


@pytest.mark.parametrize("method", METHODS)
def test_added_fast_only_the_order_of_sums_does(two_processes: TwoProcesses, method: str) -> None:
    what = METHODS[method], RELATIONS["local"], "fast", 4
    assert_same(two_processes(train, *what)[0], train(*what))


FURTHER: dict[str, RelationConfig] = {
    "local": RELATIONS["local"],
    "foreign": ForeignConfig(heads=2, context="local", pairs="all"),
    "neighbours": batchformer(context="neighbours", memory=32, neighbours=3, pairs="plain_keys"),
    "bgformer": BGFormerConfig(heads=2, context="global", top_k=3),
}


@pytest.mark.parametrize(
    ("method", "relation"), [*(("moco_v2", each) for each in FURTHER), ("moco_v3", "local")]
)
def test_two_shards_are_two_processes_of_ddp(
    two_processes: TwoProcesses, method: str, relation: str
) -> None:
    what = METHODS[method], FURTHER[relation]
    ddp = two_processes(train, *what, "ddp", 2)[0]
    assert_same(ddp, without_losses(train(*what, "fast", 2)))


def test_more_shards_are_another_loss() -> None:
    """Or the tests above would compare what does not depend on them."""
    losses = [
        train(METHODS["moco_v2"], RELATIONS["local"], "ordered", count)["loss of step 0"]
        for count in (1, 2, 4)
    ]
    assert len({round(float(loss), 6) for loss in losses}) == 3

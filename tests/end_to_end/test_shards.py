"""One process that holds two shards, and two processes that hold one each.

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
    LOCAL,
    MOCO_V2,
    MOCO_V3,
    SIMSIAM,
    STEPS,
    WIDTH,
    N,
    Result,
    TwoProcesses,
    assert_same,
    backbone,
    batch_of,
)
from tests.end_to_end.test_two_processes import two_processes as two_processes  # the fixture

pytestmark = pytest.mark.dist
SHARDS = 2


def train(config: MethodConfig, relation: RelationConfig, how: str) -> Result:
    """Some steps; `how` gradients are added: `ddp` needs a process for each shard."""
    method: Method = config.build(Start(backbone(batch_norm=True), WIDTH, relation, 2, CLASSES))
    method.double()
    shards = HeldShards(SHARDS)
    with computing(shards.first()):
        method.check_batch(N // SHARDS, SHARDS)
        method.relation.make_room(N // SHARDS)
    optimizer = build_optimizer(SgdConfig(), method.parameter_groups())
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    sharded = ShardedStep(method, optimizer, shards, in_bf16=False, is_ordered=how == "ordered")
    model: nn.Module = method
    if how == "ddp":
        assert world_size() == SHARDS
        model = DistributedDataParallel(method, broadcast_buffers=False)
    result: Result = {}
    for step in range(STEPS):
        batch, context = batch_of(step, method), StepContext(seed=1, step=step, shard=rank())
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


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("method", METHODS)
def test_the_number_of_processes_changes_nothing(
    two_processes: TwoProcesses, method: str, relation: str
) -> None:
    what = METHODS[method], RELATIONS[relation]
    ordered, fast = train(*what, "ordered"), train(*what, "fast")
    for place, theirs in enumerate(two_processes(train, *what, "ordered")):
        assert theirs.keys() == ordered.keys()
        for name, value in ordered.items():
            belongs_to_one = "running_" in name or name.startswith("measured")
            if place == 0 or not belongs_to_one:
                assert torch.equal(theirs[name], value), name
    assert_same(two_processes(train, *what, "fast")[0], fast)
    assert_same(
        two_processes(train, *what, "ddp")[0],
        {name: value for name, value in fast.items() if not name.startswith("loss")},
    )


@pytest.mark.parametrize(
    "relation",
    [
        ForeignConfig(heads=2, context="local", pairs="all"),
        batchformer(context="neighbours", memory=32, neighbours=3, pairs="plain_keys"),
        BGFormerConfig(heads=2, context="global", top_k=3),
    ],
    ids=lambda each: each.name,
)
def test_what_a_relation_keeps_is_the_same_too(
    two_processes: TwoProcesses, relation: RelationConfig
) -> None:
    config = replace(MOCO_V2, symmetric=True)
    ours, theirs = train(config, relation, "ordered"), two_processes(train, config, relation, "ddp")
    assert_same(theirs[0], {n: value for n, value in ours.items() if not n.startswith("loss")})


def test_more_shards_are_another_loss() -> None:
    """Or the test above would compare what does not depend on them."""
    one = METHODS["moco_v2"], RELATIONS["local"]
    two = train(*one, "ordered")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.end_to_end.test_shards.SHARDS", 1)
        assert not torch.allclose(train(*one, "ordered")["loss of step 0"], two["loss of step 0"])

"""Two gloo processes with batch N / 2 equal one process with batch N, where mathematics says so.

Everything is float64, so that only another order of summation separates the two: 1e-9 relative.
The processes are started once; a test sends them a function of this file.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from linear_eval.backbones.architectures import SmallConv, feature_dim
from linear_eval.system.distributed import all_gather_rows, rank, world_size
from ssl_bf.keyed_random import StepContext
from ssl_bf.layers.all_reduce import all_reduce_sum
from ssl_bf.layers.batch_norm import SynchronisedBatchNorm
from ssl_bf.losses.unit_length import unit_length
from ssl_bf.methods import MethodConfig
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.classes import Classes
from ssl_bf.methods.classifier import ClassifierConfig
from ssl_bf.methods.method import Method, Start
from ssl_bf.methods.metric import MetricConfig
from ssl_bf.methods.metric_losses import ClassInfoNceConfig, ProxyAnchorConfig
from ssl_bf.methods.moco_v2 import MoCoV2, MoCoV2Config
from ssl_bf.methods.moco_v3 import MoCoV3Config
from ssl_bf.methods.paco import PaCoConfig
from ssl_bf.methods.simsiam import SimSiamConfig
from ssl_bf.optimizers import SgdConfig, build_optimizer
from ssl_bf.parts.batch_shuffle import shuffle_rows
from ssl_bf.parts.gathered_keys import gather_keys
from ssl_bf.parts.gathered_rows import gather_rows, rows_of_others
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.relations import RelationConfig
from ssl_bf.relations.batchformer import BatchFormerConfig
from ssl_bf.relations.batchformer_v2 import BatchFormerV2Config, BatchTransformerOfTokens
from ssl_bf.relations.bgformer import BGFormerConfig
from ssl_bf.relations.controls import CopyConfig, UniformConfig
from ssl_bf.relations.foreign import ForeignConfig
from ssl_bf.relations.nearest_keys import NearestKeysConfig
from ssl_bf.relations.no_relation import NoRelationConfig
from ssl_bf.relations.surroundings import Samples
from tests.two_gloo_processes import Result, TwoProcesses

pytestmark = pytest.mark.dist

N, WIDTH, OUT, QUEUE = 8, 8, 8, 64
SAMPLES = Samples(torch.arange(N))
LOCAL = N // 2
STEPS = 3
CLASSES = Classes(("a", "b", "c", "d"), (4, 3, 2, 1))


def own_rows(rows: Tensor) -> Tensor:
    """The share of this process, all rows where there is only one."""
    return rows.chunk(world_size())[rank()]


def assert_same(ours: Result, theirs: Result) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


# Gathers and sums


def gather_and_sum() -> Result:
    x = torch.arange(6.0).reshape(2, 3) + 10 * rank()
    gathered = all_gather_rows(x.T)  # not contiguous
    x.requires_grad_()
    total = all_reduce_sum(x * (rank() + 1))
    torch.autograd.backward((total * torch.tensor([1.0, 2.0, 3.0]) * (rank() + 2)).sum())
    assert x.grad is not None
    return {"gathered": gathered, "total": total.detach(), "gradient": x.grad}


def test_gathers_are_in_rank_order_and_sums_carry_their_gradient(
    two_processes: TwoProcesses,
) -> None:
    results = two_processes(gather_and_sum)
    x = torch.arange(6.0).reshape(2, 3)
    for number, result in enumerate(results):
        assert torch.equal(result["gathered"], torch.cat([x.T, (x + 10).T]))
        assert torch.equal(result["total"], x + 2 * (x + 10))
        # The sum stands in both losses, weighted 2 and 3; x enters it times (rank + 1).
        expected = 5 * torch.tensor([1.0, 2.0, 3.0]).expand(2, 3) * (number + 1)
        assert torch.equal(result["gradient"], expected)


# Synchronised BatchNorm


def normalise(shape: tuple[int, ...], mean: float, dtype: torch.dtype) -> Result:
    """A training step of BatchNorm over the rows of all processes."""
    generator = torch.Generator().manual_seed(1)
    everything = mean + torch.randn(*shape, generator=generator, dtype=torch.float64)
    weights = torch.randn(*shape, generator=generator, dtype=torch.float64)
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    norm = SynchronisedBatchNorm(shape[1]) if world_size() > 1 else kind(shape[1])
    norm = norm.to(dtype)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, shape[1]))
        norm.bias.copy_(torch.linspace(-1, 1, shape[1]))
    x = own_rows(everything.to(dtype)).requires_grad_()
    out = norm(x)
    torch.autograd.backward((out * own_rows(weights.to(dtype))).sum())
    assert x.grad is not None
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None
    return {
        **{"rows/out": out.detach(), "rows/gradient": x.grad},
        **{"sum/weight": norm.weight.grad, "sum/bias": norm.bias.grad},
        **{f"same/{name}": buffer for name, buffer in norm.named_buffers()},
    }


def joined(results: list[Result]) -> Result:
    """Rows one after the other; gradients of parameters summed; the rest is equal on both."""
    whole: Result = {}
    for name in results[0]:
        first, second = (result[name] for result in results)
        if name.startswith("rows/"):
            whole[name] = torch.cat([first, second])
        elif name.startswith("sum/"):
            whole[name] = first + second
        elif name.startswith("mean/"):
            whole[name] = (first + second) / 2
        else:
            assert torch.equal(first, second), name
            whole[name] = first
    return whole


@pytest.mark.parametrize("shape", [(N, 3), (N, 3, 2, 4)])
def test_synchronised_batch_norm_equals_one_process(
    two_processes: TwoProcesses, shape: tuple[int, ...]
) -> None:
    results = two_processes(normalise, shape, 5.0, torch.float64)
    assert_same(joined(results), normalise(shape, 5.0, torch.float64))


def test_synchronised_batch_norm_keeps_the_digits_when_the_mean_is_large(
    two_processes: TwoProcesses,
) -> None:
    results = two_processes(normalise, (N, 3), 3000.0, torch.float32)
    expected = normalise((N, 3), 3000.0, torch.float64)
    out = joined(results)["rows/out"].double()
    # float32 keeps 2e-4 of a number near 3000, so the inputs differ by that; 20 times is room.
    torch.testing.assert_close(out, expected["rows/out"], rtol=0, atol=5e-3)


# ShuffleBN


def shuffle_and_back(seed: int) -> Result:
    images = own_rows(torch.randn(N, 3, 2, generator=torch.Generator().manual_seed(0)))
    order = StepContext(seed=seed, shard=rank()).global_permutation("shuffle", N)
    shuffled = shuffle_rows(images, order)
    return {
        "rows/images": images,
        "rows/shuffled": shuffled,
        "same/back": gather_keys(shuffled.transpose(0, 1), order).transpose(0, 1),
        "same/order": order,
    }


@pytest.mark.parametrize("seed", range(3))
def test_unshuffling_undoes_the_shuffle_across_processes(
    two_processes: TwoProcesses, seed: int
) -> None:
    whole = joined(two_processes(shuffle_and_back, seed))
    assert torch.equal(whole["same/back"], whole["rows/images"])
    assert torch.equal(whole["rows/shuffled"], whole["rows/images"][whole["same/order"]])
    assert not torch.equal(whole["rows/shuffled"], whole["rows/images"])


# Methods


def backbone(batch_norm: bool, *, in_stages: bool = False) -> nn.Module:
    with initial_values(0, "backbone"):
        if in_stages:
            return SmallConv()
        layers = [nn.Flatten(), nn.Linear(12, WIDTH), nn.BatchNorm1d(WIDTH), nn.Tanh()]
    return nn.Sequential(*(x for x in layers if batch_norm or not isinstance(x, nn.BatchNorm1d)))


def views(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    both = torch.randn(2, N, 3, 2, 2, generator=generator, dtype=torch.float64)
    return own_rows(both[0]), own_rows(both[1])


class InOrder(StepContext):
    """Groups are cut from the batch as it lies, which is how two processes share it."""

    def permutation(self, purpose: str, n: int) -> Tensor:
        return torch.arange(n)


def batch_of(step: int, method: Method | None = None) -> Batch:
    """Two views without labels, or what the method takes."""
    ids = own_rows((torch.arange(N) * 3 + step) % 11)  # some images come back in the next step
    if method is None or not method.needs_labels:
        return Batch(views(step), ids)
    labels = own_rows((torch.arange(N) + step) % len(CLASSES.names))
    return Batch(views(step)[: method.views_per_image], ids, labels)


def context_of(step: int, *, in_order: bool) -> StepContext:
    kind = InOrder if in_order else StepContext
    return kind(seed=1, step=step, shard=rank(), elapsed=step / STEPS)


def train(
    config: MethodConfig,
    relation: RelationConfig,
    *flags: str,
) -> Result:
    """Some steps as a run makes them; flags: `batch norm`, `fixed statistics`, `in order`, ..."""
    in_stages = relation.name == "batchformer_v2"
    network = backbone("batch norm" in flags, in_stages=in_stages)
    width = feature_dim("small_conv") if in_stages else WIDTH
    method: Method = config.build(Start(network, width, relation, 2, CLASSES))
    method.double()
    method.relation.make_room(N // world_size(), 2)
    method.compute_in_parts(2 if "in parts" in flags else 1, N // world_size())
    method.backward_per_view = "backward per view" in flags
    for module in method.modules():
        if "fixed statistics" in flags and isinstance(module, _BatchNorm):
            module.eval()
    several = world_size() > 1
    unused = method.skips_parameters
    model: nn.Module = method
    if several:
        model = DistributedDataParallel(
            method, broadcast_buffers=False, find_unused_parameters=unused
        )
    optimizer = build_optimizer(SgdConfig(), method.parameter_groups())
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    result: Result = {}
    for step in range(STEPS):
        optimizer.zero_grad()
        with torch.random.fork_rng():
            torch.manual_seed(10 * step + rank())  # dropout
            loss = model(batch_of(step, method), context_of(step, in_order="in order" in flags))
        torch.autograd.backward(loss)
        result[f"mean/loss of step {step}"] = loss.detach()
        if step == 0:
            for name, p in method.named_parameters():
                if p.grad is not None:
                    result[f"same/gradient of {name}"] = p.grad.clone()
        optimizer.step()
        method.push_keys()
        method.relation.after_step()
        method.move_slow_copies(0.7)
    for name, value in method.state_dict().items():
        is_local = "running_" in name and "synchronised" not in config.batch_norm
        result[f"{'mean' if is_local else 'same'}/{name}"] = value
    return result


def batchformer(**keys: Any) -> BatchFormerConfig:
    """Without dropout and with one group per process, so that both have the same context."""
    keys = {"heads": 2, "dropout": 0.0, "context": LOCAL, **keys}
    return BatchFormerConfig(**keys)


def inside(**keys: Any) -> BatchFormerV2Config:
    keys = {"heads": 2, "dropout": 0.0, "context": LOCAL, "insert_after": (1, 3), **keys}
    return BatchFormerV2Config(**keys)


def bgformer(**keys: Any) -> BGFormerConfig:
    return BGFormerConfig(**{"heads": 2, "context": LOCAL, "top_k": 3, **keys})


MOCO_V2 = MoCoV2Config(projection_dim=OUT, hidden_dim=8, queue_size=QUEUE)
MOCO_V3 = MoCoV3Config(projection_dim=OUT, hidden_dim=16, temperature=0.5)
SIMSIAM = SimSiamConfig(projection_dim=OUT, hidden_dim=8, predictor_hidden_dim=4)
SYNCHRONISED: dict[str, Any] = {
    "moco_v2": replace(MOCO_V2, batch_norm="synchronised"),
    "moco_v3": MOCO_V3,
    "simsiam": SIMSIAM,
}
each_name = pytest.mark.parametrize("config", SYNCHRONISED)
RELATIONS: dict[str, RelationConfig] = {
    "none": NoRelationConfig(),
    "plain keys": batchformer(),
    "all": batchformer(pairs="all"),
    "all, shared": batchformer(pairs="all", parameters="shared"),
    "all, frozen": batchformer(pairs="all", parameters="frozen"),
    "all, at the backbone": batchformer(pairs="all", insert_at="backbone"),
    "all, at the backbone, split": batchformer(
        pairs="all", insert_at="backbone", batch_norm="split"
    ),
}


@pytest.mark.parametrize("config", [MOCO_V3, SIMSIAM], ids=["moco_v3", "simsiam"])
@pytest.mark.parametrize("relation", RELATIONS)
def test_synchronised_methods_train_as_one_process(
    two_processes: TwoProcesses, config: MoCoV3Config | SimSiamConfig, relation: str
) -> None:
    work = (train, config, RELATIONS[relation], "batch norm", "in order")
    assert_same(joined(two_processes(*work)), train(*work[1:]))


EACH_CONFIG = pytest.mark.parametrize("config", [MOCO_V3, SIMSIAM], ids=["moco_v3", "simsiam"])


def differentiable_gather() -> Result:
    """Rows of all processes, weighted differently in the losses of the two."""
    everything = torch.arange(12.0, dtype=torch.float64).reshape(4, 3).sin()
    weights = torch.linspace(-1, 2, 12, dtype=torch.float64).reshape(4, 3).exp()
    x = own_rows(everything).clone().requires_grad_()
    gathered = gather_rows(x)
    others = rows_of_others(x)
    loss = (gathered * weights * (rank() + 1)).sum() + others.square().sum()
    torch.autograd.backward(loss)
    assert x.grad is not None
    return {"same/gathered": gathered.detach(), "others": others.detach(), "rows/gradient": x.grad}


def test_gathered_rows_carry_the_gradient_of_all_losses(two_processes: TwoProcesses) -> None:
    results = two_processes(differentiable_gather)
    everything = torch.arange(12.0, dtype=torch.float64).reshape(4, 3).sin()
    weights = torch.linspace(-1, 2, 12, dtype=torch.float64).reshape(4, 3).exp()
    for number, result in enumerate(results):
        assert torch.equal(result["same/gathered"], everything)
        assert torch.equal(result["others"], everything[2:] if number == 0 else everything[:2])
    gradient = torch.cat([result["rows/gradient"] for result in results])
    torch.testing.assert_close(gradient, 3 * weights + 2 * everything)


GLOBAL: dict[str, RelationConfig] = {
    "batchformer": batchformer(context="global"),
    "batchformer, all, two layers": batchformer(context="global", pairs="all", layers=2),
    "batchformer, all, at the backbone, shared": batchformer(
        context="global", pairs="all", insert_at="backbone", parameters="shared"
    ),
    "batchformer, gate": batchformer(context="global", residual="gate"),
    "uniform, all": UniformConfig(context="global", heads=2, dropout=0.0, pairs="all"),
    "batchformer_v2": inside(context="global"),
    "batchformer_v2, all, two layers, split": inside(
        context="global", pairs="all", layers=2, batch_norm="split"
    ),
    "foreign, all, two layers": ForeignConfig(
        context="global", heads=2, dropout=0.0, pairs="all", layers=2
    ),
    "batchformer_v2, foreign, all, two layers": inside(
        context="global", pairs="all", layers=2, attention="foreign"
    ),
    "bgformer": bgformer(context="global"),
    "bgformer, all, graphnorm, two layers": bgformer(
        context="global", pairs="all", graph_norm="graphnorm", layers=2
    ),
    "bgformer, all, teacher": bgformer(
        context="global", pairs="all", graph="teacher_knn", graph_neighbours=1
    ),
    "bgformer, clusters, graphnorm": bgformer(
        context="global", graph="cluster", clusters=3, graph_norm="graphnorm"
    ),
    "bgformer, all, single rows": bgformer(context="global", pairs="all", graph="instance"),
}


@each_name
@pytest.mark.parametrize("relation", GLOBAL)
def test_a_context_of_all_devices_is_that_of_one_process(
    two_processes: TwoProcesses, config: str, relation: str
) -> None:
    work = (train, SYNCHRONISED[config], GLOBAL[relation], "batch norm")
    assert_equal(joined(two_processes(*work)), train(*work[1:]))


def assert_equal(ours: Result, expected: Result) -> None:
    """Losses, gradients and everything trained, to 1e-10 of the largest."""
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        largest = max(1.0, value.abs().max().item())
        torch.testing.assert_close(
            ours[name], value, rtol=0, atol=1e-10 * largest, msg=f"{name} differs"
        )


@each_name
@pytest.mark.parametrize(
    ("context", "of_one", "batch_norm"),
    [(2, 2, "joint"), (LOCAL, LOCAL, "split"), ("local", LOCAL, "joint")],
)
def test_two_streams_inside_the_backbone_train_as_one_process(
    two_processes: TwoProcesses, config: str, context: Any, of_one: int, batch_norm: Any
) -> None:
    relation = inside(context=context, pairs="all", batch_norm=batch_norm)
    whole = joined(two_processes(train, SYNCHRONISED[config], relation, "batch norm", "in order"))
    one = replace(relation, context=of_one)
    assert_equal(whole, train(SYNCHRONISED[config], one, "batch norm", "in order"))
    assert any("gradient of relation.relating.at_places.1" in name for name in whole)


def related_rows(relation: RelationConfig) -> Callable[[Tensor], Tensor]:
    """(N, D) -> the related stream (N, D); inside a backbone, of tokens (N, 1, D)."""
    if isinstance(relation, BatchFormerV2Config):
        tokens = BatchTransformerOfTokens(relation, [OUT], kept=0).double()
        return lambda x: tokens(x[:, None], None, 0, dropout=False)[:, 0]
    built = relation.build(OUT, OUT, has_key_side=True).double()
    return lambda x: built.queries(x, SAMPLES, context_of(0, in_order=True), 1)[1]


def reached(relation: RelationConfig) -> Result:
    """Which rows of all processes a related row of each process changes with."""
    with initial_values(0, "relation"):
        related = related_rows(relation)
    changes = torch.zeros(LOCAL, N, dtype=torch.bool)
    everything = torch.randn(N, OUT, generator=torch.Generator().manual_seed(0)).double()
    for row in range(N):
        changed = everything.clone()
        changed[row] = -everything[row]
        before, after = (related(own_rows(x)) for x in (everything, changed))
        changes[:, row] = (before != after).any(dim=1)
    return {"rows/reached": changes}


@pytest.mark.parametrize(("context", "size"), [(2, 2), ("local", LOCAL), ("global", N)])
@pytest.mark.parametrize("name", ["batchformer", "batchformer_v2", "bgformer"])
def test_a_context_reaches_its_own_rows_and_no_others(
    two_processes: TwoProcesses, name: str, context: Any, size: int
) -> None:
    make: Any = {"batchformer": batchformer, "batchformer_v2": inside, "bgformer": bgformer}[name]
    keys = {"top_k": N} if name == "bgformer" else {}
    found = joined(two_processes(reached, make(context=context, **keys)))["rows/reached"]
    of = torch.arange(N) // size
    assert torch.equal(found, of[:, None] == of)


FOREIGN: dict[str, tuple[RelationConfig, str, tuple[int, ...]]] = {
    "features": (
        ForeignConfig(heads=2, dropout=0.0, context=LOCAL, pairs="all"),
        "rows_query",
        (N, OUT),
    ),
    "tokens": (inside(attention="foreign", pairs="all"), "places.1.rows_query", (N, 64, 1, 1)),
}


@pytest.mark.parametrize("place", FOREIGN)
@pytest.mark.parametrize("config", [MOCO_V2, MOCO_V3, SIMSIAM], ids=lambda config: config.name)
def test_foreign_trains_alike_on_both_processes(
    two_processes: TwoProcesses, config: MoCoV2Config | MoCoV3Config | SimSiamConfig, place: str
) -> None:
    """Also as one process: the groups of the other batch are those of the two."""
    config = replace(config, batch_norm="synchronised")
    relation, rows, shape = FOREIGN[place]
    work = (train, config, relation, "batch norm", "in order")
    whole = joined(two_processes(*work))
    assert whole[f"same/relation.surroundings.{rows}"].shape == shape
    assert_same(whole, train(*work[1:]))


@pytest.mark.parametrize("config", [MOCO_V2, MOCO_V3, SIMSIAM], ids=lambda config: config.name)
@pytest.mark.parametrize("relation", ["neighbours", "nearest_keys"])
def test_neighbours_are_those_of_one_process(
    two_processes: TwoProcesses,
    config: MoCoV2Config | MoCoV3Config | SimSiamConfig,
    relation: str,
) -> None:
    """The memory holds the rows of both, in MoCo-v2 with the ids of the shuffled images."""
    keys: dict[str, Any] = {"neighbours": 3, "memory": 2 * N}
    related: RelationConfig = NearestKeysConfig(**keys)
    if relation == "neighbours":
        related = batchformer(context="neighbours", pairs="all", **keys)
    shuffled = config.name == "moco_v2"
    config = replace(config, batch_norm="local" if shuffled else "synchronised")
    flags = ["in order"] if shuffled else ["batch norm", "in order"]
    whole = joined(two_processes(train, config, related, *flags))
    one = train(config, related, *flags)
    memory = "same/relation.surroundings.queue."
    assert int(whole[f"{memory}pointer"]) == STEPS * N % (2 * N)
    if shuffled:  # the rows of a step stand in another order, each with its image
        for name in ("keys", "image_ids"):
            for found in (whole, one):
                found[memory + name] = found[memory + name].sort(dim=0).values
    assert_same(whole, one)


@each_name
@pytest.mark.parametrize("graph", ["teacher_knn", "cluster"])
def test_bgformer_trains_as_one_process(
    two_processes: TwoProcesses, config: str, graph: Any
) -> None:
    """Clusters share the rows of both among their centres, and the centres agree."""
    keys: dict[str, Any] = {"graph_neighbours": 1} if graph == "teacher_knn" else {"clusters": 3}
    work = (train, SYNCHRONISED[config], bgformer(graph=graph, pairs="all", **keys))
    whole = joined(two_processes(*work, "batch norm", "in order"))
    assert ("same/relation.surroundings.centres" in whole) == (graph == "cluster")
    assert_equal(whole, train(*work[1:], "batch norm", "in order"))


CLASSIFIER = ClassifierConfig(prior=1.0, batch_norm="synchronised", label_smoothing=0.1)


@pytest.mark.parametrize(
    "relation",
    [NoRelationConfig(), batchformer(insert_at="backbone"), CopyConfig(insert_at="backbone")],
    ids=lambda relation: relation.name,
)
@pytest.mark.parametrize(
    "keys",
    [{}, {"margin": 0.5, "reweight_from": 0.5}, {"probe_until": 0.5}],
    ids=["plain", "ldam", "probe"],
)
def test_a_classifier_trains_as_one_process(
    two_processes: TwoProcesses, relation: RelationConfig, keys: dict[str, Any]
) -> None:
    """Weights of classes and a backbone that is not trained yet included."""
    config = replace(CLASSIFIER, **keys)
    work = (train, config, relation, "batch norm", "in order")
    assert_same(joined(two_processes(*work)), train(*work[1:]))


def test_a_classifiers_context_of_all_devices_is_that_of_one_process(
    two_processes: TwoProcesses,
) -> None:
    relation = batchformer(insert_at="backbone", context="global")
    work = (train, CLASSIFIER, relation, "batch norm")
    assert_same(joined(two_processes(*work)), train(*work[1:]))


def test_a_relation_that_sleeps_leaves_no_process_waiting(two_processes: TwoProcesses) -> None:
    relation = batchformer(active=(0.3, 0.6), pairs="all")
    work = (train, MOCO_V3, relation, "batch norm", "in order")
    whole = joined(two_processes(*work))
    assert_same(whole, train(*work[1:]))
    assert not any("relation" in name for name in whole if name.startswith("same/gradient"))


@EACH_CONFIG
def test_parts_and_backward_per_view_reduce_whole_gradients(
    two_processes: TwoProcesses, config: MoCoV3Config | SimSiamConfig
) -> None:
    work = (train, config, RELATIONS["all, shared"], "in order")
    whole = train(*work[1:])
    for flags in (["in parts"], ["backward per view"], ["in parts", "backward per view"]):
        assert_same(joined(two_processes(*work, *flags)), whole)


@EACH_CONFIG
def test_the_parts_of_both_processes_are_normalised_together(
    two_processes: TwoProcesses, config: MoCoV3Config | SimSiamConfig
) -> None:
    work = (train, config, RELATIONS["all, shared"], "in order", "batch norm", "in parts")
    both = joined(two_processes(*work))  # weights and statistics agree, or it fails
    local = joined(two_processes(train, replace(config, batch_norm="local"), *work[2:]))
    difference = both["mean/loss of step 0"] - local["mean/loss of step 0"]
    assert difference.abs() > 1e-4


def test_local_batch_norm_is_seen_to_differ(two_processes: TwoProcesses) -> None:
    work = (train, replace(SIMSIAM, batch_norm="local"), NoRelationConfig(), "batch norm")
    whole, one = joined(two_processes(*work)), train(*work[1:])
    difference = whole["mean/loss of step 0"] - one["mean/loss of step 0"]
    assert difference.abs() > 1e-4


@pytest.mark.parametrize("in_batch", [True, False])
@pytest.mark.parametrize("relation", ["none", "plain keys"])
def test_moco_v2_without_batch_norm_trains_as_one_process(
    two_processes: TwoProcesses, relation: str, in_batch: bool
) -> None:
    """Keys are shuffled between the processes here; they are plain, so their company is nothing."""
    config = replace(MOCO_V2, in_batch_negatives=in_batch)
    work = (train, config, RELATIONS[relation], "in order")
    whole = joined(two_processes(*work))
    assert_same(whole, train(*work[1:]))
    assert int(whole["same/queues.0.pointer"]) == STEPS * N
    ids = torch.cat([(torch.arange(N) * 3 + step) % 11 for step in range(STEPS)])
    assert whole["same/queues.0.image_ids"][: STEPS * N].tolist() == ids.tolist()


def test_moco_v2_with_fixed_statistics_trains_as_one_process(two_processes: TwoProcesses) -> None:
    config = replace(MOCO_V2, head_batch_norm=True)
    flags = ("batch norm", "fixed statistics", "in order")
    work = (train, config, RELATIONS["plain keys"], *flags)
    assert_same(joined(two_processes(*work)), train(*work[1:]))


@pytest.mark.parametrize("queue_streams", ["dual", "both", "plain"])
def test_moco_v2_queues_hold_the_keys_of_both_processes_in_rank_order(
    two_processes: TwoProcesses, queue_streams: Any
) -> None:
    """Related keys of both sides, one group per process; nothing shuffles with synchronised BN."""
    config = replace(MOCO_V2, queue_streams=queue_streams, batch_norm="synchronised")
    work = (train, config, RELATIONS["all"], "batch norm", "in order")
    assert_same(joined(two_processes(*work)), train(*work[1:]))


def test_moco_v2_symmetric_trains_as_one_process(two_processes: TwoProcesses) -> None:
    work = (train, replace(MOCO_V2, symmetric=True), RELATIONS["plain keys"], "in order")
    whole = joined(two_processes(*work))
    assert_same(whole, train(*work[1:]))
    assert int(whole["same/queues.0.pointer"]) == STEPS * 2 * N % QUEUE


def gathers_of_a_step(config: MoCoV2Config | MoCoV3Config, relation: RelationConfig) -> Result:
    """Elements that each gather of keys and image ids brings together; the views are larger."""
    method = config.build(Start(backbone(False), WIDTH, relation, seed=2)).double()
    gathered: list[int] = []
    gather = dist.all_gather

    def counted(parts: list[Tensor], rows: Tensor) -> None:
        gathered.append(rows.numel())
        gather(parts, rows)

    with patch.object(dist, "all_gather", counted):
        method(batch_of(0), context_of(0, in_order=True))
        method.push_keys()
        method.move_slow_copies(0.7)
    return {"same/gathered": torch.tensor(gathered)}


def test_keys_and_image_ids_are_gathered_once(two_processes: TwoProcesses) -> None:
    view, stream = LOCAL * 3 * 2 * 2, LOCAL * OUT
    for config, relation, expected in (
        (MOCO_V2, "none", [view, stream, LOCAL]),
        (replace(MOCO_V2, in_batch_negatives=True), "all", [view, 2 * stream, LOCAL]),
        (replace(MOCO_V2, symmetric=True), "none", 2 * [view, stream] + [LOCAL]),
        (MOCO_V3, "all", [2 * 2 * stream]),
    ):
        found = joined(two_processes(gathers_of_a_step, config, RELATIONS[relation]))
        assert found["same/gathered"].tolist() == expected


def keys_in_local_batch_norm() -> Result:
    method = MOCO_V2.build(Start(backbone(True), WIDTH, NoRelationConfig(), seed=2)).double()
    _, view = views(0)
    return {"same/keys": method.key(view, SAMPLES, context_of(0, in_order=False), 2)[0]}


def test_keys_normalised_in_shuffled_company_return_to_their_images(
    two_processes: TwoProcesses,
) -> None:
    keys = joined(two_processes(keys_in_local_batch_norm))["same/keys"]
    method = MOCO_V2.build(Start(backbone(True), WIDTH, NoRelationConfig(), seed=2)).double()
    assert isinstance(method, MoCoV2)
    encoder = nn.Sequential(method.slow_backbone, method.slow_projector)
    _, view = views(0)
    order = context_of(0, in_order=False).global_permutation("shuffle/2", N)
    with torch.no_grad():
        shuffled = torch.cat([encoder(rows) for rows in view[order].chunk(2)])
        in_order = torch.cat([encoder(rows) for rows in view.chunk(2)])
    torch.testing.assert_close(keys[order], unit_length(shuffled), rtol=1e-9, atol=1e-12)
    assert (keys - unit_length(in_order)).abs().max() > 1e-3


@pytest.mark.parametrize("config", [MOCO_V2, MOCO_V3, SIMSIAM], ids=lambda config: config.name)
@pytest.mark.parametrize("parameters", ["ema", "shared", "frozen"])
def test_relations_of_every_policy_train_alike_on_both_processes(
    two_processes: TwoProcesses,
    config: MoCoV2Config | MoCoV3Config | SimSiamConfig,
    parameters: Any,
) -> None:
    """With dropout and local BatchNorm, which differ between the processes."""
    config = replace(config, batch_norm="local")
    relation = batchformer(parameters=parameters, pairs="all", dropout=0.5, context=2)
    first, second = two_processes(train, config, relation, "batch norm")
    assert first["mean/loss of step 0"] != second["mean/loss of step 0"]
    whole = joined([first, second])  # fails where a parameter, a queue or a slow copy differs
    initial = config.build(Start(backbone(True), WIDTH, relation, seed=2)).double().state_dict()
    moved = {
        name: not torch.equal(whole[f"same/{name}"], value)
        for name, value in initial.items()
        if name.startswith("relation.")
    }
    assert len(moved) == (24 if parameters == "ema" and config.name != "simsiam" else 12)
    assert set(moved.values()) == {parameters != "frozen"}


# Methods with labels: the whole batch is compared, on whichever process its rows are

LABELLED: dict[str, MethodConfig] = {
    "pairs": MetricConfig(projection_dim=OUT, batch_norm="synchronised"),
    "info_nce": MetricConfig(
        projection_dim=OUT, loss=ClassInfoNceConfig(), batch_norm="synchronised"
    ),
    "proxy_anchor": MetricConfig(
        projection_dim=OUT, loss=ProxyAnchorConfig(lr_scale=2.0), batch_norm="synchronised"
    ),
    "paco": PaCoConfig(
        projection_dim=OUT, hidden_dim=8, queue_size=QUEUE, batch_norm="synchronised"
    ),
}
BESIDE_LABELS: dict[str, RelationConfig] = {
    "none": NoRelationConfig(),
    "batchformer": batchformer(),
    "bgformer by labels": bgformer(graph="label", insert_at="backbone"),
    "bgformer by labels, of all devices": bgformer(context="global", graph="label"),
}


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("relation", BESIDE_LABELS)
def test_methods_with_labels_train_as_one_process(
    two_processes: TwoProcesses, name: str, relation: str
) -> None:
    work = (train, LABELLED[name], BESIDE_LABELS[relation], "batch norm", "in order")
    assert_same(joined(two_processes(*work)), train(*work[1:]))

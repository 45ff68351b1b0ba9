"""What every SSL method keeps, whatever its relation.

Float64 and tiny networks: equalities that hold in mathematics then hold to about 1e-12, and the
tolerance 1e-9 tells rounding (another order of summation) from anything else.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import StepContext
from ssl_bf.layers.batch_norm import set_batch_norm_mode
from ssl_bf.methods import MethodConfig
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.method import Method, Start
from ssl_bf.methods.moco_v2 import MoCoV2, MoCoV2Config
from ssl_bf.methods.moco_v3 import MoCoV3, MoCoV3Config
from ssl_bf.methods.simsiam import SimSiam, SimSiamConfig
from ssl_bf.optimizers import AdamWConfig, LarsConfig, SgdConfig, build_optimizer
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.relations import RelationConfig
from ssl_bf.relations.batchformer import BatchFormerConfig, BatchTransformer
from ssl_bf.relations.bgformer import BGFormerConfig
from ssl_bf.relations.controls import CopyConfig, DropoutOnlyConfig, SelfOnlyConfig, UniformConfig
from ssl_bf.relations.nearest_keys import NearestKeysConfig
from ssl_bf.relations.no_relation import NoRelationConfig
from ssl_bf.relations.streams import Pairs
from ssl_bf.relations.surroundings import Samples
from ssl_bf.run.training_state import training_tensors
from ssl_bf.schedules import Elapsed, Momentum
from tests.unions import LABELLED, members_of, small

N, WIDTH, OUT, QUEUE = 8, 8, 8, 64
SAMPLES = Samples(torch.arange(N))
# labels have no related stream: tests/ssl_bf/test_methods and test_classifier have what holds there
METHODS = {name: each for name, each in members_of(MethodConfig).items() if name not in LABELLED}
SMALL = {"projection_dim": OUT, "hidden_dim": 8, "predictor_hidden_dim": 4, "queue_size": QUEUE}
CONFIGS: dict[str, MethodConfig] = {name: small(each, **SMALL) for name, each in METHODS.items()}
CONFIGS["moco_v3"] = MoCoV3Config(projection_dim=OUT, hidden_dim=16, temperature=0.5)
SHOWN = ["moco_v2", "moco_v3", "simsiam"]  # whose streams can be had with their gradient
PAIRS: list[Pairs] = ["plain_keys", "all", "matched", "plain_queries", "related"]
PLACES: list[Literal["projection", "backbone"]] = ["projection", "backbone"]
POLICIES: list[Literal["ema", "shared", "frozen"]] = ["ema", "shared", "frozen"]
LAYER = "encoder_layers.0.linear1.weight"
each_method = pytest.mark.parametrize("name", METHODS)


def backbone() -> nn.Sequential:
    with initial_values(0, "backbone"):
        linear = nn.Linear(12, WIDTH, bias=False)
        return nn.Sequential(nn.Flatten(), linear, nn.BatchNorm1d(WIDTH), nn.ReLU())


def build(name: str, relation: RelationConfig | None = None, **keys: Any) -> Method:
    settings: Any = CONFIGS[name]
    start = Start(backbone(), WIDTH, relation or NoRelationConfig(), seed=3)
    method: Method = replace(settings, **keys).build(start).double()
    method.relation.make_room(N, 2)
    if method.momentum is not None:
        method.momentum = Momentum(0.9)
    return method


def batchformer(**keys: Any) -> BatchFormerConfig:
    return BatchFormerConfig(**{"heads": 2, "context": 4, "dropout": 0.0, **keys})


def views(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn(2, N, 3, 2, 2, generator=generator, dtype=torch.float64)
    return both[0], both[1]


def batch(method: Method, *views: Tensor) -> Batch:
    """As many of the views as the method takes, and labels where it needs them."""
    labels = torch.arange(N) % 3 if method.needs_labels else None
    return Batch(views[: method.views_per_image], torch.arange(N), labels)


def loss_of(method: Method, context: StepContext) -> float:
    return method(batch(method, *views()), context).item()  # type: ignore[no-any-return]


CONTEXT = StepContext(seed=1)
HALFWAY = Elapsed(0.5, 1)


def streams_of(method: Method, view: Tensor) -> dict[str, Tensor]:
    """What the loss is made of, each (S, N, P); of methods that are not `SHOWN`, projections."""
    if isinstance(method, MoCoV2 | MoCoV3):
        return {
            "query": method.query(view, SAMPLES, CONTEXT, 1),
            "key": method.key(view, SAMPLES, CONTEXT, 1),
        }
    if isinstance(method, SimSiam):
        projections = method.project(view, SAMPLES, CONTEXT, 1)
        return {"query": method.predict(projections), "key": projections}
    method(batch(method, view, view), CONTEXT)
    assert method.projections is not None
    return {"projection": method.projections}


def gradients(method: Method) -> dict[str, Tensor]:
    return {name: p.grad for name, p in method.named_parameters() if p.grad is not None}


def snapshot(method: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in method.state_dict().items()}


def step(method: Method, seed: int = 0, context: StepContext = CONTEXT) -> Tensor:
    """One training step with an optimizer built as for a run."""
    optimizer = build_optimizer(SgdConfig(weight_decay=0.1), method.parameter_groups())
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.zero_grad()
    loss: Tensor = method(batch(method, *views(seed)), context)
    torch.autograd.backward(loss)
    optimizer.step()
    method.after_step(HALFWAY)
    return loss.detach()


NEIGHBOURS: dict[str, Any] = {"context": "neighbours", "neighbours": 3, "memory": 24}
GRAPH: dict[str, Any] = {"pairs": "all", "heads": 2, "context": 4, "top_k": 3}
EVERY_RELATION: dict[str, RelationConfig] = {
    **{
        name: small(member, pairs="all", heads=2, context=4)
        for name, member in members_of(RelationConfig).items()
        # nearest_keys: below; V2 needs a network with stages
        if name not in ("none", "nearest_keys", "batchformer_v2")
    },
    "batchformer at the backbone": batchformer(pairs="all", insert_at="backbone", dropout=0.5),
    "nearest_keys": NearestKeysConfig(neighbours=2, memory=24),
    "batchformer with neighbours": batchformer(**NEIGHBOURS, pairs="all"),
    "bgformer with a teacher": BGFormerConfig(graph="teacher_knn", **GRAPH),
    "bgformer with clusters": BGFormerConfig(graph="cluster", clusters=3, **GRAPH),
    "batchformer with split heads": batchformer(batch_norm="split"),
    "dropout_only at the backbone": DropoutOnlyConfig(pairs="all", insert_at="backbone"),
}
each_relation = pytest.mark.parametrize("relation", EVERY_RELATION)


@each_method
@each_relation
def test_in_evaluation_a_relation_leaves_no_trace(name: str, relation: str) -> None:
    related = build(name, EVERY_RELATION[relation])
    step(related)  # so that nothing has its initial value
    plain = build(name)
    state = snapshot(related)
    plain.load_state_dict({key: state[key] for key in plain.state_dict()})
    related.eval(), plain.eval()
    view_1, view_2 = views(5)
    assert torch.equal(related.backbone(view_1), plain.backbone(view_1))
    expected = streams_of(plain, view_1)
    for kind, streams in streams_of(related, view_1).items():
        assert streams.shape == (1, N, OUT)
        assert torch.equal(streams, expected[kind])
    assert torch.equal(
        related(batch(related, view_1, view_2), CONTEXT),
        plain(batch(plain, view_1, view_2), CONTEXT),
    )


@each_method
def test_in_evaluation_a_sample_depends_on_no_other(name: str) -> None:
    method = build(name, batchformer(pairs="all")).eval()
    view, other = views()
    mixed = torch.cat([view[:3], other[3:]])
    changed = streams_of(method, mixed)
    for kind, streams in streams_of(method, view).items():
        assert torch.equal(streams[:, :3], changed[kind][:, :3])
        assert not torch.equal(streams[:, 3:], changed[kind][:, 3:])


@each_method
@each_relation
def test_a_relation_changes_nothing_of_the_other_initial_values(name: str, relation: str) -> None:
    plain, related = build(name).state_dict(), build(name, EVERY_RELATION[relation]).state_dict()
    assert set(plain) <= set(related)
    for key, value in plain.items():
        assert torch.equal(value, related[key]), key
    extra = {key.split(".")[0] for key in set(related) - set(plain)}
    assert extra <= {"relation", "recentre", "queues"}
    assert {k for k in related if k.startswith("queues.0")} == {k for k in plain if "queues" in k}


@each_method
def test_building_draws_nothing_from_the_global_generator(name: str) -> None:
    before = torch.get_rng_state()
    method = CONFIGS[name].build(Start(nn.Identity(), WIDTH, batchformer(), seed=0))
    assert torch.equal(torch.get_rng_state(), before)
    again = CONFIGS[name].build(Start(nn.Identity(), WIDTH, batchformer(), seed=0))
    other = CONFIGS[name].build(Start(nn.Identity(), WIDTH, batchformer(), seed=1))
    for (key, value), same, different in zip(
        method.state_dict().items(),
        again.state_dict().values(),
        other.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(value, same), key
        if key.endswith("linear1.weight") or key.startswith("projector.0.weight"):
            assert not torch.equal(value, different), key


WIRINGS: dict[str, RelationConfig] = {
    "none": NoRelationConfig(),
    "self_only": SelfOnlyConfig(heads=2, dropout=0.0, pairs="all"),
    "uniform": UniformConfig(heads=2, dropout=0.0, pairs="all", context=4),
    "bgformer": BGFormerConfig(**GRAPH),
    "bgformer with a teacher": BGFormerConfig(graph="teacher_knn", **GRAPH),
    **{
        f"batchformer {place} {policy} {pairs}": batchformer(
            insert_at=place, parameters=policy, pairs=pairs
        )
        for place in PLACES
        for policy in POLICIES
        for pairs in PAIRS
    },
    **{
        f"batchformer {place} split": batchformer(insert_at=place, batch_norm="split")
        for place in PLACES
    },
}


def is_undone(method: Method, parameter: str, relation: RelationConfig) -> bool:
    """Whether BatchNorm takes back what the parameter does, so that its gradient is rounding."""
    if isinstance(relation, BGFormerConfig):  # BatchNorm takes back its last shift
        return isinstance(method, SimSiam) and parameter.endswith("linear2.bias")
    if not isinstance(relation, BatchFormerConfig | SelfOnlyConfig | UniformConfig):
        return False
    if isinstance(method, SimSiam) and method.recentre is not None:  # BatchNorm follows directly
        return parameter.endswith(("norm2.weight", "norm2.bias"))
    # Linear, BatchNorm: a shift common to all rows of the stream
    has_norm = any(isinstance(m, _BatchNorm) for m in method.projector.modules())
    return has_norm and relation.batch_norm == "split" and parameter.endswith("norm2.bias")


def trained_parts(method: Method) -> set[str]:
    return {name.split(".")[0] for name, p in method.named_parameters() if p.requires_grad}


@each_method
@pytest.mark.parametrize("wiring", WIRINGS)
def test_every_trainable_parameter_receives_a_gradient_and_no_other(name: str, wiring: str) -> None:
    relation = WIRINGS[wiring]
    method = build(name, relation)
    torch.autograd.backward(method(batch(method, *views()), CONTEXT))
    for parameter, p in method.named_parameters():
        if not p.requires_grad:
            assert p.grad is None, parameter
        else:
            assert p.grad is not None, parameter
            size = p.grad.abs().max().item()
            assert size > 1e-8 or is_undone(method, parameter, relation), (parameter, size)
    heads = trained_parts(build(name))
    assert {"backbone", "projector"} <= heads
    assert "relation" not in heads
    trains = wiring != "none" and not ("frozen" in wiring or "plain_queries" in wiring)
    assert trained_parts(method) == heads | ({"relation"} if trains else set())


@each_method
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("parameters", POLICIES)
@pytest.mark.parametrize("pairs", ["plain_keys", "all"])
def test_a_step_moves_the_relation_unless_it_is_frozen(
    name: str,
    place: Literal["projection", "backbone"],
    parameters: Literal["ema", "shared", "frozen"],
    pairs: Pairs,
) -> None:
    relation = batchformer(insert_at=place, parameters=parameters, pairs=pairs)
    method = build(name, relation)
    before = snapshot(method)
    step(method)
    after = method.state_dict()
    for key in before:
        if key.startswith("relation.relating."):
            assert torch.equal(before[key], after[key]) == (parameters == "frozen"), key
        elif ".weight" in key and not key.startswith("relation."):
            assert not torch.equal(before[key], after[key]), key


@each_method
@pytest.mark.parametrize("momentum", [0.0, 0.7, 1.0])
def test_slow_copies_follow_the_optimizer_step_with_the_momentum(
    name: str, momentum: float
) -> None:
    method = build(name, batchformer(parameters="ema", pairs="all"))
    if method.momentum is not None:
        method.momentum = Momentum(momentum)
    before = snapshot(method)
    step(method)
    after = method.state_dict()
    slow = [key for key, _ in method.named_parameters() if "slow_" in key]
    parts = {key.split(".")[0] for key in slow}
    assert (not parts) if method.momentum is None else {"slow_backbone", "relation"} <= parts
    for key in slow:
        fast = key.replace("slow_", "")
        assert not torch.equal(after[fast], before[fast])
        expected = momentum * before[key] + (1 - momentum) * after[fast]
        torch.testing.assert_close(after[key], expected)


@pytest.mark.parametrize("name", ["moco_v2", "moco_v3"])
@pytest.mark.parametrize("part", ["backbone", "projector", "relation.relating"])
def test_keys_come_from_the_slow_copies_alone(name: str, part: str) -> None:
    method = build(name, batchformer(parameters="ema", pairs="all"))
    view = views()[0]
    before = streams_of(method, view)
    with torch.no_grad():
        for p in method.get_submodule(part).parameters():
            p.mul_(torch.linspace(0.5, 2, p.numel()).view_as(p))
    after = streams_of(method, view)
    assert torch.equal(after["key"], before["key"])
    assert not torch.equal(after["query"], before["query"])


@pytest.mark.parametrize("name", ["moco_v2", "moco_v3"])
@pytest.mark.parametrize("parameters", ["shared", "frozen"])
def test_moving_the_slow_copies_leaves_a_shared_relation_as_it_is(
    name: str, parameters: Literal["shared", "frozen"]
) -> None:
    method = build(name, batchformer(parameters=parameters, pairs="all"))
    before = snapshot(method.relation)
    method.move_slow_copies(0.3)
    torch.testing.assert_close(snapshot(method.relation), before, rtol=0, atol=0)


@each_method
@pytest.mark.parametrize("parameters", POLICIES)
def test_a_relation_is_owned_once(
    name: str, parameters: Literal["ema", "shared", "frozen"]
) -> None:
    method = build(name, batchformer(parameters=parameters, pairs="all"))
    slow = [f"relation.slow_relating.{LAYER}"]
    has_slow = parameters == "ema" and method.momentum is not None
    found = [key for key in method.state_dict() if key.endswith(LAYER)]
    assert found == [f"relation.relating.{LAYER}", *(slow if has_slow else [])]
    optimizer = build_optimizer(SgdConfig(), method.parameter_groups())
    given = [id(p) for group in optimizer.param_groups for p in group["params"]]
    owned = [id(p) for p in method.relation.parameters() if p.requires_grad]
    assert bool(owned) == (parameters != "frozen")
    for p in owned:
        assert given.count(p) == 1
    assert not any("relating" in key for key in method.backbone.state_dict())


@each_method
@pytest.mark.parametrize("parameters", POLICIES)
def test_parameter_groups_hold_what_trains_exactly_once(
    name: str, parameters: Literal["ema", "shared", "frozen"]
) -> None:
    method = build(name, batchformer(parameters=parameters, pairs="all", lr_scale=0.25))
    groups = method.parameter_groups()
    named = [pair for group in groups for pair in group.parameters]
    expected = {key: p for key, p in method.named_parameters() if p.requires_grad}
    assert len(named) == len(expected)
    assert all(expected[key] is p for key, p in named)
    for group in groups:
        parts = {key.split(".")[0] for key, _ in group.parameters}
        is_relation = parts == {"relation"}
        assert is_relation or "relation" not in parts
        assert group.learning_rate_scale == (0.25 if is_relation else 1.0)
        assert (group.schedule == "constant") == (name == "simsiam" and parts == {"predictor"})
    assert len(groups) == 1 + len(method.constant_rate_modules()) + (parameters != "frozen")


@each_method
@each_relation
def test_forward_and_backward_write_nothing_but_batch_norm_buffers(
    name: str, relation: str
) -> None:
    method = build(name, EVERY_RELATION[relation])
    before = snapshot(method)
    torch.autograd.backward(method(batch(method, *views()), CONTEXT))
    changed = {k for k, v in method.state_dict().items() if not torch.equal(v, before[k])}
    assert {key.rsplit(".", 1)[1] for key in changed} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }


def same_queues(method: Method) -> None:
    """The second queue of `dual` starts with other random keys: an A/A check needs equal ones."""
    if isinstance(method, MoCoV2) and len(method.queues) == 2:
        method.queues[1].load_state_dict(method.queues[0].state_dict())


@each_method
@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("batch_norm", ["joint", "split"])
@pytest.mark.parametrize("mode", ["local", "groups:2"])
def test_copy_equals_none(
    name: str,
    pairs: Pairs,
    place: Literal["projection", "backbone"],
    batch_norm: Literal["joint", "split"],
    mode: str,
) -> None:
    """Loss and gradients; running variances differ, 2N - 1 is not twice N - 1."""
    keys: dict[str, Any] = {"batch_norm": mode}
    if name == "moco_v2":
        keys["head_batch_norm"] = True
    plain = build(name, **keys)
    copied = build(name, CopyConfig(pairs=pairs, insert_at=place, batch_norm=batch_norm), **keys)
    same_queues(copied)
    losses = [method(batch(method, *views()), CONTEXT) for method in (plain, copied)]
    torch.autograd.backward(losses)
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradients(copied), gradients(plain), rtol=1e-9, atol=1e-10)


@each_method
@each_relation
def test_before_and_after_its_share_of_training_a_run_is_one_without_relation(
    name: str, relation: str
) -> None:
    """To the bit: losses and weights, of steps before it, and of one after it."""
    plain = build(name)
    config: Any = EVERY_RELATION[relation]
    related = build(name, replace(config, active=(0.5, 0.75)))
    for number in range(2):
        context = StepContext(seed=1, step=number, elapsed=number / 4)
        assert torch.equal(step(plain, number, context), step(related, number, context))
    state = snapshot(related)
    for key, value in plain.state_dict().items():
        assert torch.equal(value, state[key]), key
    losses = [loss_of(each, StepContext(elapsed=0.5)) for each in (plain, related)]
    assert relation == "copy" or losses[0] != losses[1]
    step(related, 2, StepContext(elapsed=0.5))
    state = snapshot(related)
    plain.load_state_dict({key: state[key] for key in plain.state_dict()})
    last = StepContext(elapsed=0.75)
    assert torch.equal(step(plain, 3, last), step(related, 3, last))


@each_method
def test_the_gate_is_trained_and_logged_and_never_decays(name: str) -> None:
    method = build(name, batchformer(residual="gate", lr_scale=0.5))
    gate = method.relation.gate()
    assert gate is not None
    for config in (SgdConfig(), AdamWConfig(), LarsConfig()):
        optimizer = build_optimizer(config, method.parameter_groups())
        [group] = [
            each for each in optimizer.param_groups if any(p is gate for p in each["params"])
        ]
        assert group["weight_decay"] == 0.0
        assert group["learning_rate_scale"] == 0.5
        assert len(group["params"]) == 1 or config.name == "lars"
    step(method)
    assert gate.item() != 0
    assert method.measurements()["gate"] == gate.item()
    assert "gate" not in build(name, batchformer()).measurements()


@each_method
def test_the_sum_over_all_pairs_of_copies_is_four_times_the_loss(name: str) -> None:
    plain, copied = build(name), build(name, CopyConfig(pairs="all", reduction="sum"))
    same_queues(copied)
    expected = 4 * plain(batch(plain, *views()), CONTEXT)
    torch.testing.assert_close(
        copied(batch(copied, *views()), CONTEXT), expected, rtol=1e-9, atol=0
    )


@each_method
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_loss_does_not_depend_on_the_order_of_the_batch_unless_dropout_acts(
    name: str, place: Literal["projection", "backbone"], dropout: float
) -> None:
    relation = batchformer(insert_at=place, pairs="all", context="local", dropout=dropout)
    method = build(name, relation)
    view_1, view_2 = views()
    order = torch.tensor([3, 7, 0, 4, 6, 1, 2, 5])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loss = method(batch(method, view_1, view_2))
        torch.manual_seed(0)
        permuted = method(batch(method, view_1[order], view_2[order]))
    difference = (permuted - loss).abs().item()
    assert difference < 1e-12 if dropout == 0 else difference > 1e-6


def freeze_batch_norms(method: Method) -> None:
    """In training, BatchNorm alone lets every sample see every other."""
    for module in method.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("place", PLACES)
def test_only_the_related_stream_lets_samples_meet_and_only_those_of_one_group(
    name: str, place: Literal["projection", "backbone"]
) -> None:
    method = build(name, batchformer(insert_at=place, context=4))
    if isinstance(method, SimSiam):
        method.recentre = None
    freeze_batch_norms(method)
    view = views()[0].requires_grad_()
    queries = streams_of(method, view)["query"]
    projection = views(9)[0].reshape(N, -1)[0, :OUT]
    group_of = CONTEXT.permutation("groups/query/1", N).argsort() // 4
    for stream in range(2):
        for row in range(N):
            (gradient,) = torch.autograd.grad(
                queries[stream, row] @ projection, view, retain_graph=True
            )
            reached = gradient.flatten(1).abs().amax(dim=1) > 0
            same = group_of == group_of[row] if stream else torch.arange(N) == row
            assert torch.equal(reached, same)


@each_method
@pytest.mark.parametrize("place", PLACES)
def test_a_relation_sees_one_view_at_a_time(
    name: str, place: Literal["projection", "backbone"]
) -> None:
    method = build(name, batchformer(insert_at=place, pairs="all", parameters="shared"))
    seen: list[Tensor] = []
    assert isinstance(method.relation.relating, BatchTransformer)
    method.relation.relating.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    view_1, view_2 = views()
    method(batch(method, view_1, view_2), CONTEXT)
    first = list(seen)
    seen.clear()
    method(batch(method, view_1, views(8)[1]), CONTEXT)  # another second view
    assert all(features.shape == (N, WIDTH) for features in first)
    unchanged = [torch.equal(a, b) for a, b in zip(first, seen, strict=True)]
    assert unchanged.count(True) == len(first) // 2


@each_method
def test_the_same_step_gives_the_same_loss_and_another_step_other_groups(name: str) -> None:
    relation = batchformer(pairs="all", context=2)
    losses = [
        loss_of(build(name, relation), StepContext(seed=1, step=number, shard=shard))
        for number, shard in [(0, 0), (0, 0), (1, 0), (0, 1)]
    ]
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


@each_method
def test_it_survives_the_state_dict(name: str) -> None:
    relation = batchformer(pairs="all")
    method, restored = build(name, relation), build(name, relation)
    for seed in range(2):
        step(method, seed=seed)
    restored.load_state_dict(snapshot(method))
    for either in (method, restored):
        step(either, seed=2)
    torch.testing.assert_close(snapshot(restored), snapshot(method), rtol=0, atol=0)


@each_method
@pytest.mark.parametrize("relation", [NoRelationConfig(), batchformer(), batchformer(pairs="all")])
def test_one_batch_can_be_learned_by_heart(name: str, relation: RelationConfig) -> None:
    method = build(name, relation)
    optimizer = build_optimizer(SgdConfig(weight_decay=0.0), method.parameter_groups())
    for group in optimizer.param_groups:
        group["lr"] = 0.05
    losses: list[float] = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = method(batch(method, *views()), CONTEXT)
        torch.autograd.backward(loss)
        optimizer.step()
        method.move_slow_copies(0.9)
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.2


@each_method
def test_the_loss_and_its_ingredients_are_float32_under_bf16(name: str) -> None:
    method = build(name, batchformer(pairs="all", dropout=0.5)).float()
    view_1, view_2 = (view.float() for view in views())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method(batch(method, view_1, view_2), CONTEXT)
        streams = streams_of(method, view_1)
    torch.autograd.backward(loss)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert all(value.isfinite().all() for value in gradients(method).values())
    if name in ("moco_v2", "moco_v3"):
        assert streams["key"].dtype == torch.float32
    method.after_step(HALFWAY)


@each_method
def test_measurements_follow_the_last_forward(name: str) -> None:
    method = build(name, batchformer(pairs="all"))
    assert method.measurements() == {}
    method(batch(method, *views()), CONTEXT)
    values = method.measurements()
    for stream in range(2):
        assert 0 < values[f"feature_std/stream_{stream}"] < 2
    assert method.projections is not None
    assert not method.projections.requires_grad
    assert not any("projections" in key for key in method.state_dict())


@each_method
@pytest.mark.parametrize(
    ("relation", "local_batch", "message"),
    [
        (NoRelationConfig(), 1, r"batch_size: 1 image per device.*raise batch_size"),
        (batchformer(context=3), 8, r"relation\.context: groups of 3 do not divide the 8 images"),
        (batchformer(context=16), 8, r"relation\.context: groups of 16 do not divide"),
    ],
)
def test_a_batch_that_cannot_work_is_refused(
    name: str, relation: RelationConfig, local_batch: int, message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        build(name, relation).check_batch(local_batch, 1)
    assert "\n" not in str(error.value)


@each_method
@pytest.mark.parametrize(
    "relation", [NoRelationConfig(), batchformer(), batchformer(context="local"), CopyConfig()]
)
def test_a_batch_that_works_is_accepted(name: str, relation: RelationConfig) -> None:
    build(name, relation).check_batch(8, 2)


@each_method
@pytest.mark.parametrize("groups", [3, 8, 16])
def test_groups_of_batch_norm_without_two_equal_rows_are_refused(name: str, groups: int) -> None:
    message = rf"method\.batch_norm: groups:{groups} does not cut the 8 images per device"
    with pytest.raises(InputError, match=message):
        build(name, batch_norm=f"groups:{groups}").check_batch(8, 1)
    build(name, batch_norm="groups:4").check_batch(8, 1)


Refusal = Callable[[], object]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MoCoV2Config(temperature=0.0), "temperature: must be > 0"),
        (lambda: MoCoV2Config(momentum=1.1), "momentum: must lie in"),
        (lambda: MoCoV2Config(queue_size=0), "queue_size: must be >= 1, got 0"),
        (lambda: MoCoV2Config(projection_dim=0), "projection_dim: "),
        (lambda: MoCoV2Config(hidden_dim=0), "hidden_dim: must be >= 1, got 0"),
        (lambda: MoCoV2Config(batch_norm="everything"), "batch_norm: expected local"),
        (lambda: MoCoV3Config(temperature=-1.0), "temperature: must be > 0"),
        (lambda: MoCoV3Config(momentum=-0.1), "momentum: must lie in"),
        (lambda: MoCoV3Config(hidden_dim=0), "hidden_dim: "),
        (lambda: MoCoV3Config(batch_norm="groups:1"), "batch_norm: expected local"),
        (lambda: SimSiamConfig(predictor_hidden_dim=0), "predictor_hidden_dim: "),
        (lambda: SimSiamConfig(hidden_layers=0), "hidden_layers: "),
        (lambda: SimSiamConfig(hidden_dim=0), "hidden_dim: must be >= 1, got 0"),
        (lambda: SimSiamConfig(batch_norm="groups:x"), "batch_norm: expected local"),
    ],
)
def test_settings_without_meaning_are_refused(make: Refusal, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def one_step_of(method: Method) -> dict[str, Tensor]:
    torch.manual_seed(5)  # dropout
    loss = step(method)
    return {"loss": loss, **gradients(method), **snapshot(method)}


@each_method
@pytest.mark.parametrize("place", PLACES)
def test_a_batch_in_parts_is_the_same_batch(
    name: str, place: Literal["projection", "backbone"]
) -> None:
    relation = batchformer(pairs="all", insert_at=place, dropout=0.5)
    whole = build(name, relation, batch_norm="groups:4")
    for parts in (2, 4):
        parted = build(name, relation, batch_norm="groups:4")
        parted.compute_in_parts(parts, N)
        assert parted.notes() == whole.notes()  # there is nothing to warn of
        expected = one_step_of(build(name, relation, batch_norm="groups:4"))
        torch.testing.assert_close(one_step_of(parted), expected, rtol=1e-9, atol=1e-11)


@each_method
def test_parts_differ_by_the_batch_norm_of_the_trained_backbone_alone(name: str) -> None:
    parted, expected = build(name, batch_norm="local"), build(name, batch_norm="local")
    parted.compute_in_parts(2, N)
    assert parted.notes()[0].startswith("accumulate=2: BatchNorm of the trained backbone")
    set_batch_norm_mode(expected.backbone, "groups:2")
    torch.testing.assert_close(one_step_of(parted), one_step_of(expected), rtol=1e-9, atol=1e-11)


@each_method
@pytest.mark.parametrize("parts", [3, N])
def test_parts_that_are_unequal_or_single_images_are_refused(name: str, parts: int) -> None:
    method = build(name, batch_norm="local")
    with pytest.raises(InputError, match=f"^accumulate: {parts} does not cut the {N} images"):
        method.compute_in_parts(parts, N)


@each_method
@pytest.mark.parametrize("parts", [1, 2])
def test_backward_per_view_gives_the_same_gradients(name: str, parts: int) -> None:
    keys: dict[str, Any] = {"symmetric": True} if name == "moco_v2" else {}
    relation = batchformer(pairs="all", parameters="shared", dropout=0.5)
    at_once, per_view = build(name, relation, **keys), build(name, relation, **keys)
    per_view.backward_per_view = True
    for method in (at_once, per_view):
        method.compute_in_parts(parts, N)
    torch.testing.assert_close(one_step_of(per_view), one_step_of(at_once), rtol=1e-9, atol=1e-11)


def test_backward_per_view_frees_the_first_view_before_the_second() -> None:
    method = build("moco_v3")
    method.backward_per_view = True
    view_1, view_2 = (view.requires_grad_() for view in views())
    loss = method(batch(method, view_1, view_2), CONTEXT)
    assert view_1.grad is not None
    assert view_2.grad is None
    again = torch.autograd.grad(loss, [view_1, view_2], allow_unused=True)
    assert again[0] is None
    assert again[1] is not None


@each_method
def test_slow_copies_queues_and_momentum_stay_where_they_are_in_memory(name: str) -> None:
    method = build(name, batchformer(pairs="all"))
    optimizer = build_optimizer(SgdConfig(momentum=0.9), method.parameter_groups())
    places: list[list[int]] = []
    for number in range(3):
        optimizer.zero_grad()
        torch.autograd.backward(method(batch(method, *views(number)), CONTEXT))
        optimizer.step()
        method.after_step(HALFWAY)
        places.append([value.data_ptr() for value in training_tensors(method, optimizer).values()])
    assert places[0] == places[1] == places[2]


@each_method
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_backbones_compute_the_same_under_the_same_names(
    name: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    compiled = build(name)
    compiled.compile_backbones()
    names = list(build(name).state_dict())
    torch.testing.assert_close(one_step_of(compiled), one_step_of(build(name)))
    assert list(compiled.state_dict()) == names
    calls = [m._compiled_call_impl for m in compiled.modules() if m._compiled_call_impl]
    assert len(calls) == (1 if compiled.momentum is None else 2)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_title_says_whether_labels_were_used(name: str) -> None:
    expected = f"supervised ({name})" if build(name).needs_labels else "pretrained"
    assert CONFIGS[name].title == expected

"""Tests of ssl_bf.relations.batchformer_v2 and token_relation, in float64 against loops."""

import copy
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.stages import places, stages
from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import StepContext
from ssl_bf.layers.batch_norm import set_batch_norm_mode
from ssl_bf.methods import MethodConfig
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.method import Method, Start
from ssl_bf.methods.moco_v2 import MoCoV2
from ssl_bf.methods.moco_v3 import MoCoV3
from ssl_bf.optimizers import SgdConfig, build_optimizer
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.relations import RelationConfig
from ssl_bf.relations.batchformer_v2 import BatchFormerV2Config, BatchTransformerOfTokens
from ssl_bf.relations.foreign import ForeignConfig
from ssl_bf.relations.no_relation import NoRelationConfig
from ssl_bf.relations.streams import Pairs
from ssl_bf.relations.surroundings import Beside, Samples, Side
from ssl_bf.relations.token_relation import TokenRelation
from ssl_bf.schedules import Elapsed, Momentum
from tests.unions import LABELLED, members_of, small

N, SIZE = 8, 8
SAMPLES = Samples(torch.arange(N))
METHODS = {name: each for name, each in members_of(MethodConfig).items() if name not in LABELLED}
SMALL = {"projection_dim": 8, "hidden_dim": 8, "predictor_hidden_dim": 4, "queue_size": 64}
CONTEXT = StepContext(seed=1, step=2)
PAIRS: list[Pairs] = ["plain_keys", "all", "matched", "plain_queries", "related"]
each_method = pytest.mark.parametrize("name", METHODS)
each_network = pytest.mark.parametrize("network", ["small_conv", "vit_micro"])


def backbone(network: str = "small_conv") -> nn.Module:
    if network.startswith("vit"):
        pytest.importorskip("timm", reason="vision transformers need the extra timm")
    with initial_values(0, "backbone"):
        made = build_backbone(network)
        with torch.no_grad():  # a fresh class token sees nearly the same in every image
            for p in made.parameters():
                p.add_(0.1 * torch.randn_like(p))
    return made.double()


def v2(**keys: Any) -> BatchFormerV2Config:
    return BatchFormerV2Config(**{"context": 4, "dropout": 0.0, "insert_after": (2,), **keys})


def related(network: str = "small_conv", **keys: Any) -> tuple[TokenRelation, nn.Module]:
    made = backbone(network)
    with initial_values(0, "relation"):
        relation = v2(**keys).build(1, 1, has_key_side=True, backbone=made).double()
    assert isinstance(relation, TokenRelation)
    return relation, made


def tokens_of(**keys: Any) -> BatchTransformerOfTokens:
    relating = related(**keys)[0].relating
    assert isinstance(relating, BatchTransformerOfTokens)
    return relating


def build(name: str, network: str, relation: RelationConfig | None = None, **keys: Any) -> Method:
    made = backbone(network)
    width = {"small_conv": 128, "resnet18": 512, "vit_micro": 128}[network]
    config = small(METHODS[name], **{**SMALL, **keys})
    method: Method = config.build(Start(made, width, relation or NoRelationConfig(), seed=3))
    if method.momentum is not None:
        method.momentum = Momentum(0.9)
    return method.double()


def randn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def batch(method: Method, size: int = SIZE, seed: int = 0) -> Batch:
    both = randn(2, N, 3, size, size, seed=seed)
    labels = torch.arange(N) % 3 if method.needs_labels else None
    return Batch((both[0], both[1])[: method.views_per_image], torch.arange(N), labels)


def gradients(method: Method) -> dict[str, Tensor]:
    return {name: p.grad for name, p in method.named_parameters() if p.grad is not None}


def by_loops(module: BatchTransformerOfTokens, tokens: Tensor, groups: list[list[int]]) -> Tensor:
    """Each position of each group as a sequence of its own, row by row."""
    out = tokens.clone()
    for position in range(tokens.shape[1]):
        for rows in groups:
            sequence = tokens[rows, position][None]
            for layer in module.at_places[0].children():
                sequence = layer(sequence, dropout=False)
            for i, row in enumerate(rows):
                out[row, position] = sequence[0, i]
    return out


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("context", [1, 2, 4, "local"])
def test_it_is_a_loop_over_positions(layers: int, context: int | Literal["local"]) -> None:
    module = tokens_of(layers=layers, context=context)
    tokens = randn(N, 5, 32)
    order = None if context == "local" else torch.tensor([3, 7, 0, 4, 6, 1, 2, 5])
    dealt = list(range(N)) if order is None else order.tolist()
    g = N if context == "local" else context
    groups = [dealt[start : start + g] for start in range(0, N, g)]
    expected = by_loops(module, tokens, groups)
    got = module(tokens, order, 0, dropout=False)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    grid = tokens[:, :4].transpose(1, 2).reshape(N, 32, 2, 2)
    of_grid = module(grid, order, 0, dropout=False).flatten(2).transpose(1, 2)
    torch.testing.assert_close(of_grid, expected[:, :4], rtol=1e-12, atol=1e-12)


def test_gradient_flows_across_the_samples_of_a_group_and_never_across_positions() -> None:
    module = tokens_of(context=4)
    tokens = randn(N, 5, 32).requires_grad_()
    order = torch.tensor([3, 7, 0, 4, 6, 1, 2, 5])
    out = module(tokens, order, 0, dropout=False)
    (gradient,) = torch.autograd.grad(out[0, 1] @ randn(32, seed=1), tokens)
    reached = gradient.abs().amax(dim=2) > 0
    expected = torch.zeros(N, 5, dtype=torch.bool)
    expected[[3, 7, 0, 4], 1] = True
    assert torch.equal(reached, expected)


def test_alone_no_gradient_crosses_between_samples() -> None:
    module, tokens = tokens_of(context=1), randn(N, 5, 32).requires_grad_()
    out = module(tokens, torch.randperm(N), 0, dropout=False)
    (gradient,) = torch.autograd.grad(out[3].sum(dim=0) @ randn(32, seed=1), tokens)
    assert (gradient.abs().amax(dim=(1, 2)) > 0).tolist() == [row == 3 for row in range(N)]


def test_uniform_attention_is_the_learned_one_whose_queries_are_zero() -> None:
    uniform, learned = tokens_of(attention="uniform"), tokens_of()
    tokens = randn(N, 5, 32)
    found = uniform(tokens, None, 0, dropout=False)
    assert not torch.allclose(found, learned(tokens, None, 0, dropout=False))
    for (name, p), q in zip(learned.named_parameters(), uniform.parameters(), strict=True):
        p.data.copy_(q)
        if "in_proj" in name:
            p.data[:32] = 0
    torch.testing.assert_close(found, learned(tokens, None, 0, dropout=False))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("context", [4, "local"])
def test_foreign_is_the_control_of_features_at_each_position(
    layers: int, context: int | Literal["local"]
) -> None:
    module = tokens_of(layers=layers, context=context, attention="foreign")
    config = ForeignConfig(layers=layers, context=context, dropout=0.0)
    of_features = config.relating(32).double()
    [at_place] = module.at_places
    assert isinstance(of_features.encoder_layers, nn.Module)
    of_features.encoder_layers.load_state_dict(at_place.state_dict())
    order = None if context == "local" else torch.tensor([3, 7, 0, 4, 6, 1, 2, 5])
    seen = torch.rand(N, N, generator=torch.Generator().manual_seed(4)) > 0.3
    tokens, before = randn(N, 5, 32), randn(N, 5, 32, seed=1)
    found = module(tokens, order, 0, dropout=False, beside=Beside(before, seen))
    for position in range(5):
        beside = Beside(before[:, position], seen)
        expected = of_features(tokens[:, position], order, dropout=False, beside=beside)
        torch.testing.assert_close(found[:, position], expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(found, module(tokens, order, 0, dropout=False))


@pytest.mark.parametrize("network", ["small_conv", "vit_micro"])
def test_foreign_sees_the_values_of_the_step_before_at_its_place(network: str) -> None:
    relation, made = related(network, insert_after=(1, 3), attention="foreign", batch_norm="split")
    relation.make_room(N, SIZE)
    others, images = randn(N, 3, SIZE, SIZE), randn(N, 3, SIZE, SIZE, seed=1)
    before, after = Samples(SAMPLES.image_ids + N), CONTEXT
    first = relation.features(copy.deepcopy(made), others, before, StepContext(), "query", 1)
    assert relation.noted is not None
    expected = [values for values, _ in relation.noted.inside]
    relation.after_step()
    relation.features(copy.deepcopy(made), images, SAMPLES, after, "query", 1)
    beside = [beside for _, beside in relation.noted.inside]
    assert len(beside) == 2
    for values, seen in zip(expected, beside, strict=True):
        assert seen is not None
        assert torch.equal(seen.rows, values)
        assert seen.seen.all()
    relation.features(copy.deepcopy(made), images, before, after, "query", 1)
    again = relation.noted.inside[0][1]
    assert again is not None
    assert torch.equal(again.seen, ~torch.eye(N, dtype=torch.bool))  # an image's own older copy
    assert first.shape == (2, N, 128)


def test_foreign_needs_another_batch() -> None:
    relation, _ = related(attention="foreign")
    with pytest.raises(InputError, match=r"^relation\.attention: foreign needs another batch"):
        relation.check_steps(steps_per_epoch=1, total_steps=10)
    relation.check_steps(steps_per_epoch=2, total_steps=20)


@pytest.mark.parametrize("network", ["small_conv", "resnet18", "vit_micro"])
def test_the_streams_are_the_network_and_the_network_with_the_relation_inside(network: str) -> None:
    """Both places, later ones on the related half alone, against the stages written out."""
    relation, made = related(network, insert_after=(1, 3), batch_norm="split", context="local")
    images = randn(N, 3, SIZE, SIZE)
    streams = relation.features(copy.deepcopy(made), images, SAMPLES, CONTEXT, "query", 1)
    assert torch.equal(streams[0], copy.deepcopy(made)(images))
    first, second = places(made)[1].stages, places(made)[3].stages
    value = images
    assert relation.relating is not None
    for number, stage in enumerate(stages(made), start=1):
        value = stage(value)
        if number in (first, second):
            value = relation.relating(value, None, int(number == second), dropout=False)
    torch.testing.assert_close(streams[1], value, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(streams[0], streams[1])


@pytest.mark.parametrize("mode", ["local", "groups:2"])
def test_joint_batch_norm_sees_both_streams_of_each_image(mode: str) -> None:
    relation, made = related(context="local", batch_norm="joint")
    set_batch_norm_mode(made, mode)
    images = randn(N, 3, SIZE, SIZE)
    streams = relation.features(copy.deepcopy(made), images, SAMPLES, CONTEXT, "query", 1)
    cut = stages(made)
    plain = cut[1](cut[0](images))
    assert relation.relating is not None
    rows = torch.stack([plain, relation.relating(plain, None, 0, dropout=False)], dim=1)
    value = rows.flatten(0, 1)  # image by image
    for stage in cut[2:]:
        value = stage(value)
    torch.testing.assert_close(streams, value.view(N, 2, -1).transpose(0, 1))


def test_split_batch_norm_leaves_the_plain_networks_running_statistics() -> None:
    for batch_norm, is_kept in (("split", True), ("joint", False)):
        relation, made = related(batch_norm=batch_norm, insert_after=(1,))
        plain, images = copy.deepcopy(made), randn(N, 3, SIZE, SIZE)
        plain(images)
        relation.features(made, images, SAMPLES, CONTEXT, "query", 1)
        pairs = zip(made.buffers(), plain.buffers(), strict=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in pairs) == is_kept


@each_method
@each_network
@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("batch_norm", ["joint", "split"])
def test_a_copy_at_the_tokens_equals_none(
    name: str,
    network: str,
    pairs: Pairs,
    batch_norm: Literal["joint", "split"],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    relation = v2(pairs=pairs, batch_norm=batch_norm)
    plain, copied = build(name, network), build(name, network, relation)
    monkeypatch.setattr(BatchTransformerOfTokens, "forward", lambda _, values, *__, **___: values)
    if isinstance(copied, MoCoV2) and len(copied.queues) == 2:
        copied.queues[1].load_state_dict(copied.queues[0].state_dict())
    losses = [method(batch(method), CONTEXT) for method in (plain, copied)]
    torch.autograd.backward(losses)
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradients(copied), gradients(plain), rtol=1e-8, atol=1e-9)


@each_method
@each_network
def test_a_closed_gate_is_a_copy_and_opens(name: str, network: str) -> None:
    plain, gated = build(name, network), build(name, network, v2(residual="gate"))
    losses = [method(batch(method), CONTEXT) for method in (plain, gated)]
    torch.autograd.backward(losses)
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-9, atol=1e-12)
    found = gradients(gated)
    gate = gated.relation.gate()
    assert gate is not None and gate.grad is not None
    assert float(gate.grad.abs()) > 0
    assert gated.measurements()["gate"] == 0
    assert [group.name for group in gated.parameter_groups()][-2:] == ["relation", "gate"]
    for key, gradient in gradients(plain).items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-8, atol=1e-9)


@each_method
@each_network
def test_what_is_handed_over_is_a_plain_network(name: str, network: str) -> None:
    method, plain = build(name, network, v2(pairs="all")), build(name, network)
    step(method)
    assert list(method.backbone.state_dict()) == list(plain.backbone.state_dict())
    stripped = backbone(network)
    stripped.load_state_dict(method.backbone.state_dict())
    images = randn(N, 3, SIZE, SIZE)
    method.eval(), stripped.eval()
    expected = stripped(images)
    assert torch.equal(method.backbone(images), expected)
    sides: tuple[Side, Side] = ("query", "key")
    for side in sides:
        assert torch.equal(
            method.relation.features(method.backbone, images, SAMPLES, CONTEXT, side, 1), expected
        )
    assert method.relation.queries(expected, SAMPLES, CONTEXT, 1).shape == (1, *expected.shape)


@each_method
@each_network
def test_adding_it_changes_no_other_initial_value(name: str, network: str) -> None:
    plain = build(name, network).state_dict()
    method = build(name, network, v2(pairs="all")).state_dict()
    assert all(torch.equal(value, method[key]) for key, value in plain.items())
    assert {key.split(".")[0] for key in method.keys() - plain.keys()} <= {"relation", "queues"}


def step(method: Method) -> None:
    optimizer = build_optimizer(SgdConfig(), method.parameter_groups())
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.zero_grad()
    torch.autograd.backward(method(batch(method), CONTEXT))
    optimizer.step()
    method.after_step(Elapsed(0.5, 1))


@each_method
@each_network
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("pairs", ["plain_keys", "all", "plain_queries"])
@pytest.mark.parametrize("parameters", ["ema", "shared", "frozen"])
def test_everything_that_trains_moves_and_the_slow_copy_follows(
    name: str,
    network: str,
    pairs: Pairs,
    parameters: Literal["ema", "shared", "frozen"],
    *,
    share: bool,
) -> None:
    if share and network != "vit_micro":
        pytest.skip("the places of a convolutional network have several widths")
    relation = v2(pairs=pairs, parameters=parameters, insert_after=(1, 3), share_layers=share)
    method = build(name, network, relation)
    trains = parameters != "frozen" and pairs != "plain_queries"
    before = {key: value.clone() for key, value in method.state_dict().items()}
    step(method)
    after = method.state_dict()
    has_slow = parameters == "ema" and pairs != "plain_keys" and method.momentum is not None
    slow = [key for key in after if key.startswith("relation.slow_relating.")]
    assert bool(slow) == has_slow
    for key, p in method.named_parameters():
        if key.startswith("relation.relating."):
            assert p.requires_grad == trains
            assert torch.equal(before[key], after[key]) != trains, key
    for key in slow:
        fast = after[key.replace("slow_", "")]
        torch.testing.assert_close(after[key], 0.9 * before[key] + 0.1 * fast)
    places_of = {key.split(".")[3] for key in after if key.startswith("relation.relating.")}
    assert places_of == ({"0"} if share else {"0", "1"})


@each_network
def test_keys_come_from_the_slow_copy_alone(network: str) -> None:
    method = build("moco_v3", network, v2(pairs="all", parameters="ema", batch_norm="split"))
    assert isinstance(method, MoCoV3)
    images = batch(method).views[0]
    before = method.query(images, SAMPLES, CONTEXT, 1), method.key(images, SAMPLES, CONTEXT, 1)
    for part, changed in (("relating", 0), ("slow_relating", 1)):
        with torch.no_grad():
            for p in method.relation.get_submodule(part).parameters():
                p.mul_(torch.linspace(0.5, 2, p.numel()).view_as(p))
        after = method.query(images, SAMPLES, CONTEXT, 1), method.key(images, SAMPLES, CONTEXT, 1)
        assert torch.equal(after[1 - changed], before[1 - changed])
        assert torch.equal(after[changed][0], before[changed][0])  # the plain stream
        assert not torch.equal(after[changed][1], before[changed][1])
        before = after


@pytest.mark.parametrize("residual", ["published", "gate"])
def test_its_gradient_is_that_of_finite_differences(residual: Literal["published", "gate"]) -> None:
    config = BatchFormerV2Config(heads=2, context=3, dropout=0.0, residual=residual)
    with initial_values(0, "relation"):
        module = BatchTransformerOfTokens(config, [4], kept=1).double()
        with torch.no_grad():  # away from the special values of the initialisation
            for p in module.parameters():
                p.add_(0.3 * torch.randn_like(p))
    order = torch.tensor([4, 0, 2, 5, 1, 3])
    names = [name for name, _ in module.named_parameters()]

    def related_tokens(tokens: Tensor, *values: Tensor) -> Tensor:
        given = dict(zip(names, values, strict=True))
        out: Tensor = functional_call(module, given, (tokens, order, 0), {"dropout": False})
        return out

    inputs = [randn(6, 3, 4), *(p.detach().clone() for p in module.parameters())]
    assert torch.autograd.gradcheck(related_tokens, [each.requires_grad_() for each in inputs])


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_permuting_the_samples_permutes_the_output_unless_dropout_acts(dropout: float) -> None:
    module, tokens = tokens_of(context="local", dropout=dropout), randn(N, 5, 32)
    order = torch.tensor([3, 7, 0, 4, 6, 1, 2, 5])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = module(tokens, None, 0, dropout=True)
        torch.manual_seed(0)
        permuted = module(tokens[order], None, 0, dropout=True)
    error = float((permuted - out[order]).detach().abs().max())
    assert error < 1e-12 if dropout == 0 else error > 0.05


@each_method
def test_keys_are_grouped_anew(name: str) -> None:
    method = build(name, "small_conv", v2(pairs="all", parameters="shared"))
    if method.momentum is None:
        pytest.skip("one network makes both sides")
    seen: list[Tensor] = []
    assert method.relation.relating is not None
    method.relation.relating.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    method(batch(method), CONTEXT)
    assert len({tuple(order.tolist()) for order in seen}) == len(seen) >= 2


def test_the_class_token_can_be_left_out() -> None:
    relation, made = related("vit_micro", class_token=False, insert_after=(1,))
    assert isinstance(relation.relating, BatchTransformerOfTokens)
    tokens = randn(N, 5, 128)
    out = relation.relating(tokens, None, 0, dropout=False)
    assert torch.equal(out[:, 0], tokens[:, 0])
    whole = related("vit_micro", insert_after=(1,))[0].relating
    assert whole is not None
    expected = whole(tokens, None, 0, dropout=False)
    torch.testing.assert_close(out[:, 1:], expected[:, 1:])
    assert not torch.allclose(expected[:, 0], tokens[:, 0])
    streams = relation.features(made, randn(N, 3, SIZE, SIZE), SAMPLES, CONTEXT, "query", 1)
    assert not torch.allclose(streams[0], streams[1])  # through the patches, in later blocks


def test_it_has_6_e_squared_and_10_e_parameters_at_each_place() -> None:
    relation, _ = related("vit_micro", insert_after=(0, 2, 4))
    count = sum(p.numel() for p in relation.parameters())
    assert count == 3 * (6 * 128**2 + 10 * 128)
    shared, _ = related("vit_micro", insert_after=(0, 2, 4), share_layers=True)
    assert sum(p.numel() for p in shared.parameters()) == count // 3


def test_the_places_have_the_width_that_is_there() -> None:
    for network in ("small_conv", "resnet18", "resnet50_cifar", "vit_micro"):
        if network.startswith("vit"):
            pytest.importorskip("timm", reason="vision transformers need the extra timm")
        made = build_backbone(network).eval()
        seen, value = {}, torch.zeros(1, 3, 32, 32)
        for number, stage in enumerate(stages(made), start=1):
            value = stage(value)
            seen[number] = value.shape[2 if value.ndim == 3 else 1]
        there = places(made)
        assert [place.width for place in there.values()] == [seen[p.stages] for p in there.values()]
        assert list(there) == ([0, 1, 2, 3, 4] if network == "vit_micro" else [1, 2, 3, 4])


def test_attention_runs_in_bf16_and_the_loss_is_float32() -> None:
    method = build("moco_v3", "vit_micro", v2(pairs="all", dropout=0.5)).float()
    given = batch(method).map(lambda x: x.float() if x.is_floating_point() else x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method(given, CONTEXT)
    torch.autograd.backward(loss)
    assert loss.dtype == torch.float32
    assert all(value.isfinite().all() for value in gradients(method).values())


@pytest.mark.parametrize(
    ("network", "keys", "message"),
    [
        ("small_conv", {"insert_after": (5,)}, r"insert_after: 5 is no place in a SmallConv, "),
        ("small_conv", {"insert_after": (0,)}, "insert_after: 0 is no place .* expected 1 to 4"),
        ("vit_micro", {"insert_after": (5,)}, "insert_after: 5 is no place .* expected 0 to 4"),
        ("small_conv", {"heads": 5}, "relation.heads: 5 heads do not divide the width 32"),
        (
            "resnet18",
            {"insert_after": (2, 3), "share_layers": True},
            "share_layers: the places are 128 and 256 wide",
        ),
        ("small_conv", {"class_token": False}, "class_token: is false, but a SmallConv has no"),
        (
            "vit_micro",
            {"class_token": False, "insert_after": (4,)},
            "insert_after: behind block 4 only the class token is read",
        ),
    ],
)
def test_what_does_not_fit_the_backbone_is_refused(
    network: str, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        related(network, **keys)
    assert "\n" not in str(refused.value)


def test_a_backbone_without_stages_is_refused() -> None:
    with pytest.raises(InputError, match="Linear has no stages"):
        v2().build(1, 1, has_key_side=True, backbone=nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"insert_after": ()}, "insert_after: must be rising numbers >= 0"),
        ({"insert_after": (2, 1)}, "insert_after: must be rising"),
        ({"insert_after": (2, 2)}, "insert_after: must be rising"),
        ({"insert_after": (-1,)}, "insert_after: must be rising"),
        ({"context": 0}, "context: a group needs at least 2 rows"),
        ({"context": 1, "attention": "uniform"}, "attention: uniform does nothing with context=1"),
        ({"context": 1, "attention": "foreign"}, "attention: foreign does nothing with context=1"),
        ({"residual": "gate", "parameters": "frozen"}, "residual: .* nothing would ever open"),
        ({"residual": "gate", "pairs": "plain_queries"}, "residual: .* nothing would ever open"),
    ],
)
def test_settings_without_meaning_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        v2(**keys)


def test_groups_that_do_not_divide_the_batch_are_refused() -> None:
    with pytest.raises(InputError, match=r"relation\.context: groups of 4 do not divide the 6"):
        build("moco_v3", "small_conv", v2()).check_batch(6, 1)


@each_method
@each_network
def test_outside_its_share_of_training_the_run_is_none(name: str, network: str) -> None:
    plain = build(name, network)
    late = build(name, network, v2(pairs="all", active=(0.5, 1.0)))
    before = StepContext(seed=1, step=2, elapsed=0.4)
    assert torch.equal(late(batch(late), before), plain(batch(plain), before))
    after = StepContext(seed=1, step=2, elapsed=0.5)
    assert not torch.equal(late(batch(late), after), plain(batch(plain), after))

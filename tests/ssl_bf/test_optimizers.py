"""Tests of ssl_bf.optimizers against loops written from the update rules."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_bf.optimizers import (
    AdamWConfig,
    LarsConfig,
    OptimizerConfig,
    ParameterGroup,
    SgdConfig,
    build_optimizer,
    peak_learning_rate,
    set_learning_rates,
    state_keys,
)
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.schedules import Plan

PLAN = Plan(steps_per_epoch=5, epochs=2, warmup_epochs=0, peak_learning_rate=0.2)
SHAPES = {"conv": (4, 3, 2, 2), "linear": (3, 5), "bias": (7,), "scale": ()}


def parameters(seed: int = 0) -> list[tuple[str, nn.Parameter]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (name, nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)))
        for name, shape in SHAPES.items()
    ]


def set_gradients(named: list[tuple[str, nn.Parameter]], step: int) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for _, p in named:
        p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64)


def lars_rule(config: LarsConfig, w: Tensor, g: Tensor, buffer: Tensor) -> Tensor:
    """Update of one parameter, by scalars."""
    if w.ndim > 1:
        g = g + config.weight_decay * w
        w_norm = math.sqrt(sum(x * x for x in w.flatten().tolist()))
        g_norm = math.sqrt(sum(x * x for x in g.flatten().tolist()))
        if w_norm > 0 and g_norm > 0:
            g = g * (config.trust_coefficient * w_norm / g_norm)
    return config.momentum * buffer + g


def test_lars_equals_the_rule_applied_to_one_parameter_at_a_time() -> None:
    config = LarsConfig(weight_decay=0.05, trust_coefficient=0.02)
    named = parameters()
    optimizer = build_optimizer(config, [ParameterGroup(name="all", parameters=named)])
    expected = {name: p.detach().clone() for name, p in named}
    buffers = {name: torch.zeros_like(p) for name, p in expected.items()}
    for step in range(6):
        set_learning_rates(optimizer, PLAN, step)
        set_gradients(named, step)
        for name, p in named:
            assert p.grad is not None
            buffers[name] = lars_rule(config, expected[name], p.grad, buffers[name])
            expected[name] = expected[name] - PLAN.learning_rate(step) * buffers[name]
        optimizer.step()
        for name, p in named:
            torch.testing.assert_close(p.detach(), expected[name], rtol=1e-12, atol=1e-14)


def test_lars_leaves_the_gradient_alone_where_a_norm_is_zero() -> None:
    zero_weight = nn.Parameter(torch.zeros(2, 2))
    zero_update = nn.Parameter(torch.ones(2, 2))
    group = ParameterGroup(name="all", parameters=[("a", zero_weight), ("b", zero_update)])
    optimizer = build_optimizer(LarsConfig(weight_decay=0.0), [group])
    set_learning_rates(optimizer, PLAN, 0)
    zero_weight.grad = torch.full((2, 2), 3.0)
    zero_update.grad = torch.zeros(2, 2)
    optimizer.step()
    torch.testing.assert_close(zero_weight.detach(), torch.full((2, 2), -0.2 * 3.0))
    assert torch.equal(zero_update, torch.ones(2, 2))


def test_lars_skips_parameters_without_gradient() -> None:
    named = parameters()
    optimizer = build_optimizer(LarsConfig(), [ParameterGroup(name="all", parameters=named)])
    set_learning_rates(optimizer, PLAN, 0)
    before = [p.detach().clone() for _, p in named]
    set_gradients(named[:1], 0)
    optimizer.step()
    assert not torch.equal(named[0][1], before[0])
    for (_, p), old in zip(named[1:], before[1:], strict=True):
        assert torch.equal(p, old)
        assert not optimizer.state[p]


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("config_class", [SgdConfig, AdamWConfig])
def test_weight_decay_reaches_1d_parameters_unless_excluded(
    config_class: type[SgdConfig | AdamWConfig], exclude: bool
) -> None:
    config = config_class(weight_decay=0.5, exclude_1d_from_weight_decay=exclude)
    named = parameters()
    optimizer = build_optimizer(config, [ParameterGroup(name="all", parameters=named)])
    set_learning_rates(optimizer, PLAN, 0)
    before = {name: p.detach().clone() for name, p in named}
    for _, p in named:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in named:
        shrinks = p.ndim > 1 or not exclude
        expected = before[name] * (1 - 0.2 * 0.5) if shrinks else before[name]
        torch.testing.assert_close(p.detach(), expected)


def test_sgd_follows_its_rule() -> None:
    config = SgdConfig(momentum=0.8, weight_decay=0.03)
    named = parameters()
    optimizer = build_optimizer(config, [ParameterGroup(name="all", parameters=named)])
    expected = [p.detach().clone() for _, p in named]
    buffers = [torch.zeros_like(p) for p in expected]
    for step in range(5):
        set_learning_rates(optimizer, PLAN, step)
        set_gradients(named, step)
        for i, (_, p) in enumerate(named):
            assert p.grad is not None
            buffers[i] = 0.8 * buffers[i] + p.grad + 0.03 * expected[i]
            expected[i] = expected[i] - PLAN.learning_rate(step) * buffers[i]
        optimizer.step()
    for (_, p), value in zip(named, expected, strict=True):
        torch.testing.assert_close(p.detach(), value, rtol=1e-12, atol=1e-14)


def test_adamw_follows_its_rule() -> None:
    config = AdamWConfig(betas=(0.7, 0.95), weight_decay=0.1)
    named = parameters()
    optimizer = build_optimizer(config, [ParameterGroup(name="all", parameters=named)])
    w = [p.detach().clone() for _, p in named]
    m, v = [torch.zeros_like(p) for p in w], [torch.zeros_like(p) for p in w]
    for step in range(5):
        set_learning_rates(optimizer, PLAN, step)
        set_gradients(named, step)
        rate = PLAN.learning_rate(step)
        for i, (_, p) in enumerate(named):
            assert p.grad is not None
            m[i] = 0.7 * m[i] + 0.3 * p.grad
            v[i] = 0.95 * v[i] + 0.05 * p.grad**2
            first, second = m[i] / (1 - 0.7 ** (step + 1)), v[i] / (1 - 0.95 ** (step + 1))
            w[i] = w[i] * (1 - rate * 0.1) - rate * first / (second.sqrt() + 1e-8)
        optimizer.step()
    for (_, p), value in zip(named, w, strict=True):
        torch.testing.assert_close(p.detach(), value, rtol=1e-9, atol=1e-12)


def test_groups_keep_name_scale_and_schedule() -> None:
    first, second, third, fourth = parameters()
    optimizer = build_optimizer(
        SgdConfig(exclude_1d_from_weight_decay=True),
        [
            ParameterGroup(name="backbone", parameters=[first, third]),
            ParameterGroup(
                name="relation", parameters=[second], learning_rate_scale=0.1, schedule="constant"
            ),
            ParameterGroup(name="head", parameters=[fourth], learning_rate_scale=2.0),
            ParameterGroup(name="empty", parameters=[]),
        ],
    )
    plan = Plan(steps_per_epoch=4, epochs=4, warmup_epochs=2, peak_learning_rate=0.8)
    set_learning_rates(optimizer, plan, 4)
    found: list[dict[str, Any]] = [
        {key: group[key] for key in ("name", "lr", "weight_decay", "param_names", "schedule")}
        for group in optimizer.param_groups
    ]
    expected = [
        ("backbone", 0.4, 1e-4, ["conv"], "cosine"),
        ("backbone without weight decay", 0.4, 0.0, ["bias"], "cosine"),
        ("relation", 0.8 * 0.1, 1e-4, ["linear"], "constant"),
        ("head without weight decay", 0.8, 0.0, ["scale"], "cosine"),
    ]
    assert [tuple(group.values()) for group in found] == [
        (name, pytest.approx(lr), decay, names, schedule)
        for name, lr, decay, names, schedule in expected
    ]
    set_learning_rates(optimizer, plan, 0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.0, 0.8 * 0.1, 0.0]


def test_lars_trusts_and_decays_matrices_only() -> None:
    group = ParameterGroup(name="all", parameters=parameters())
    groups = build_optimizer(LarsConfig(weight_decay=0.5, trust_coefficient=0.01), [group])
    assert [
        [group[key] for key in ("name", "param_names", "weight_decay", "trust_coefficient")]
        for group in groups.param_groups
    ] == [
        ["all", ["conv", "linear"], 0.5, 0.01],
        ["all without weight decay", ["bias", "scale"], 0.0, None],
    ]


def test_base_learning_rate_is_per_256_images() -> None:
    assert peak_learning_rate(SgdConfig(base_learning_rate=0.05), 512) == pytest.approx(0.1)
    assert peak_learning_rate(LarsConfig(base_learning_rate=0.3), 4096) == pytest.approx(4.8)
    assert peak_learning_rate(AdamWConfig(base_learning_rate=1e-3), 256) == 1e-3


@pytest.mark.parametrize("config", [SgdConfig(), LarsConfig(), AdamWConfig()])
def test_a_parameter_enters_once_and_only_if_it_trains(config: OptimizerConfig) -> None:
    p = nn.Parameter(torch.ones(2, 2))
    other = nn.Parameter(torch.ones(2))
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)

    def build(*groups: list[tuple[str, nn.Parameter]]) -> None:
        named = [ParameterGroup(name=str(i), parameters=g) for i, g in enumerate(groups)]
        build_optimizer(config, named)

    build([("p", p)], [("other", other)])
    with pytest.raises(AssertionError, match="two names"):
        build([("p", p)], [("q", p)])
    with pytest.raises(AssertionError, match=r"given twice.*'p'"):
        build([("p", p), ("p", other)])
    with pytest.raises(AssertionError, match=r"frozen.*'still'"):
        build([("p", p), ("still", frozen)])


@pytest.mark.parametrize("config", [SgdConfig(), LarsConfig(), AdamWConfig()])
def test_state_keys_are_what_the_optimizer_keeps(config: OptimizerConfig) -> None:
    named = parameters()
    optimizer = build_optimizer(config, [ParameterGroup(name="all", parameters=named)])
    set_gradients(named, 0)
    optimizer.step()
    for _, p in named:
        assert sorted(optimizer.state[p]) == sorted(state_keys(optimizer))


@pytest.mark.parametrize(
    ("config_class", "key", "value"),
    [
        (SgdConfig, "base_learning_rate", 0.0),
        (SgdConfig, "base_learning_rate", math.inf),
        (SgdConfig, "momentum", 1.0),
        (SgdConfig, "warmup_epochs", -1.0),
        (LarsConfig, "weight_decay", -1e-6),
        (LarsConfig, "trust_coefficient", 0.0),
        (LarsConfig, "weight_decay", math.nan),
        (AdamWConfig, "betas", (0.9, 1.0)),
        (AdamWConfig, "betas", (-0.1, 0.9)),
    ],
)
def test_impossible_values_name_the_key_and_the_value(
    config_class: type[OptimizerConfig], key: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=f"^{key}: must be .*, got "):
        config_class(**{key: value})


@pytest.mark.parametrize("config", [SgdConfig(momentum=0.5), LarsConfig(), AdamWConfig()])
def test_channels_last_parameters_move_as_contiguous_ones_do(config: OptimizerConfig) -> None:
    moved = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        with initial_values(0, "network"):
            layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).double()
            x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
        layers.to(memory_format=memory_format)
        optimizer = build_optimizer(config, [ParameterGroup("all", [*layers.named_parameters()])])
        for group in optimizer.param_groups:
            group["lr"] = 0.1
        for step in range(3):
            optimizer.zero_grad()
            inputs = (x + step).contiguous(memory_format=memory_format)
            torch.autograd.backward(layers(inputs).square().sum())
            optimizer.step()
        moved.append(dict(layers.state_dict()))
    torch.testing.assert_close(moved[1], moved[0])


@pytest.mark.parametrize("config", [SgdConfig(), LarsConfig(), AdamWConfig()])
def test_a_group_that_does_not_decay_keeps_matrices_too_from_it(config: OptimizerConfig) -> None:
    named = parameters()
    group = ParameterGroup("gate", named, learning_rate_scale=0.5, decays=False)
    [found] = build_optimizer(config, [group]).param_groups
    assert found["weight_decay"] == 0.0
    assert found["learning_rate_scale"] == 0.5
    assert found["param_names"] == [name for name, _ in named]

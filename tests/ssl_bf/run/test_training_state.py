"""Tests of ssl_bf.run.training_state: going on from a checkpoint equals never having stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from linear_eval.system.errors import InputError
from ssl_bf.optimizers import (
    AdamWConfig,
    LarsConfig,
    OptimizerConfig,
    ParameterGroup,
    SgdConfig,
    build_optimizer,
    set_learning_rates,
)
from ssl_bf.run.checkpoint import copied, load_newest, save
from ssl_bf.run.training_state import restore, training_tensors
from ssl_bf.schedules import Plan

CONFIGS = [
    SgdConfig(weight_decay=0.01, exclude_1d_from_weight_decay=True),
    SgdConfig(momentum=0.0),
    LarsConfig(weight_decay=0.01, trust_coefficient=0.1),
    AdamWConfig(),
]
PLAN = Plan(steps_per_epoch=5, epochs=2, warmup_epochs=0.4, peak_learning_rate=0.05)


class TinyMethod(nn.Module):
    """Channels-last weights, BatchNorm buffers, a frozen slow copy and a queue with a pointer."""

    queue: Tensor
    queue_pointer: Tensor

    def __init__(self, seed: int, width: int = 4) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(3, width, 3)
            self.norm = nn.BatchNorm1d(width)
            self.head = nn.Linear(width, 5)
            self.slow_head = nn.Linear(width, 5).requires_grad_(False)
        self.register_buffer("queue", torch.zeros(6, 5))
        self.register_buffer("queue_pointer", torch.tensor(0))
        self.conv.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        features = self.norm(self.conv(x).mean((2, 3)))
        output: Tensor = self.head(features)
        with torch.no_grad():
            slow = self.slow_head(features)
        loss: Tensor = (output - slow).square().mean() + (output @ self.queue.T).mean()
        return loss

    @torch.no_grad()
    def after_step(self) -> None:
        self.slow_head.weight.lerp_(self.head.weight, 0.1)
        pointer = int(self.queue_pointer)
        self.queue[pointer] = self.head.weight[0, 0] + pointer
        self.queue_pointer.copy_(torch.tensor((pointer + 1) % 6))


def build(
    config: OptimizerConfig, *, seed: int, width: int = 4
) -> tuple[TinyMethod, torch.optim.Optimizer]:
    method = TinyMethod(seed, width)
    trained = [(name, p) for name, p in method.named_parameters() if p.requires_grad]
    head = [pair for pair in trained if pair[0].startswith("head")]
    rest = [pair for pair in trained if not pair[0].startswith("head")]
    groups = [ParameterGroup("rest", rest), ParameterGroup("head", head, schedule="constant")]
    return method, build_optimizer(config, groups)


def train(method: TinyMethod, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        set_learning_rates(optimizer, PLAN, step)
        optimizer.zero_grad()
        method(torch.randn(8, 3, 5, 5, generator=generator)).backward()
        optimizer.step()
        method.after_step()


def assert_same_bits(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert ours[name].dtype == value.dtype, name
        assert torch.equal(ours[name], value), name


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_save_and_restore_continue_to_the_bit(tmp_path: Path, config: OptimizerConfig) -> None:
    method, optimizer = build(config, seed=1)
    train(method, optimizer, range(4))
    tensors = training_tensors(method, optimizer)
    save(tmp_path, step=4, tensors=copied(tensors), state={}, keep=1)
    train(method, optimizer, range(4, 10))
    never_stopped = training_tensors(method, optimizer)

    method, optimizer = build(config, seed=2)
    restore(method, optimizer, load_newest(tmp_path).tensors)
    train(method, optimizer, range(4, 10))
    assert_same_bits(training_tensors(method, optimizer), never_stopped)


def test_restore_replaces_what_training_had_left(tmp_path: Path) -> None:
    method, optimizer = build(AdamWConfig(), seed=1)
    fresh = {k: v.clone() for k, v in training_tensors(method, optimizer).items()}
    assert not any(name.startswith("optimizer/") for name in fresh)
    train(method, optimizer, range(3))
    restore(method, optimizer, fresh)
    assert_same_bits(training_tensors(method, optimizer), fresh)


def test_names_cover_the_method_and_every_optimizer_tensor_once() -> None:
    method, optimizer = build(AdamWConfig(exclude_1d_from_weight_decay=True), seed=1)
    train(method, optimizer, range(1))
    trained = {name for name, p in method.named_parameters() if p.requires_grad}
    expected = {f"method/{name}" for name in method.state_dict()}
    for key in ("step", "exp_avg", "exp_avg_sq"):
        expected |= {f"optimizer/{name}/{key}" for name in trained}
    tensors = training_tensors(method, optimizer)
    assert set(tensors) == expected
    held = {id(value) for state in optimizer.state.values() for value in state.values()}
    stored = {id(value) for name, value in tensors.items() if name.startswith("optimizer/")}
    assert stored == held


def test_restore_keeps_the_parameters_themselves_and_their_memory_format() -> None:
    method, optimizer = build(SgdConfig(), seed=1)
    train(method, optimizer, range(2))
    tensors = {k: v.clone().contiguous() for k, v in training_tensors(method, optimizer).items()}
    other, other_optimizer = build(SgdConfig(), seed=2)
    weight = other.conv.weight
    restore(other, other_optimizer, tensors)
    assert other.conv.weight is weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(weight, tensors["method/conv.weight"])
    buffer = other_optimizer.state[weight]["momentum_buffer"]
    assert buffer.is_contiguous(memory_format=torch.channels_last)
    train(other, other_optimizer, range(2, 3))
    assert not torch.equal(buffer, tensors["optimizer/conv.weight/momentum_buffer"])


def damaged(what: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    changed = dict(tensors)
    if what == "missing tensor":
        del changed["method/queue"]
    elif what == "unexpected tensor":
        changed["method/relation.weight"] = torch.zeros(2)
    elif what == "other shape":
        changed["method/queue"] = torch.zeros(6, 6)
    elif what == "other type":
        changed["method/queue"] = torch.zeros(6, 5, dtype=torch.float64)
    elif what == "missing state":
        del changed["optimizer/head.weight/exp_avg"]
    elif what == "unexpected state":
        changed["optimizer/head.weight/momentum_buffer"] = torch.zeros(5, 4)
    elif what == "state of nobody":
        changed["optimizer/tail.weight/step"] = torch.tensor(1.0)
    elif what == "neither":
        changed["weight"] = torch.zeros(2)
    return changed


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing tensor", r"\(missing: method/queue\)"),
        ("unexpected tensor", r"\(not part of this run: method/relation.weight\)"),
        ("other shape", r"method/queue is float32 \(6, 6\) instead of float32 \(6, 5\)"),
        ("other type", r"method/queue is float64 \(6, 5\) instead of float32 \(6, 5\)"),
        ("missing state", r"\(missing: optimizer/head.weight/exp_avg\)"),
        ("unexpected state", r"not part of this run: optimizer/head.weight/momentum_buffer"),
        ("state of nobody", r"not part of this run: optimizer/tail.weight/step"),
        ("neither", r"not part of this run: weight"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_changed(what: str, message: str) -> None:
    method, optimizer = build(AdamWConfig(), seed=1)
    train(method, optimizer, range(2))
    given = {k: v.clone() for k, v in training_tensors(method, optimizer).items()}
    train(method, optimizer, range(2, 4))
    before = {k: v.clone() for k, v in training_tensors(method, optimizer).items()}
    with pytest.raises(InputError, match=f"^checkpoint: does not fit this run .*{message}"):
        restore(method, optimizer, damaged(what, given))
    assert_same_bits(training_tensors(method, optimizer), before)


def test_another_architecture_names_the_first_few_tensors_in_one_line() -> None:
    method, optimizer = build(SgdConfig(), seed=1, width=7)
    given = training_tensors(method, optimizer)
    method, optimizer = build(SgdConfig(), seed=1)
    with pytest.raises(InputError) as caught:
        restore(method, optimizer, given)
    message = str(caught.value)
    assert "\n" not in message
    assert "method/conv.weight is float32 (7, 3, 3, 3) instead of float32 (4, 3, 3, 3)" in message
    assert "and 5 more" in message


def test_the_state_of_another_optimizer_is_refused() -> None:
    method, optimizer = build(SgdConfig(), seed=1)
    train(method, optimizer, range(1))
    given = training_tensors(method, optimizer)
    method, optimizer = build(AdamWConfig(), seed=1)
    with pytest.raises(InputError, match=r"not part of this run: .*momentum_buffer"):
        restore(method, optimizer, given)

"""Make a captured step again, and say whether it is the same and where it first went wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from linear_eval.strict_config.reader import parse_config
from linear_eval.system.errors import InputError
from ssl_bf.build import Trained, fit_to_shards
from ssl_bf.captured.first_wrong import FirstWrong, Phase, Wrong, broken_names
from ssl_bf.captured.step_file import StepFacts, StepFile, changes, digest, read
from ssl_bf.choices.measured_choices import Choices
from ssl_bf.config import PretrainConfig
from ssl_bf.keyed_random import StepContext
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.classes import Classes
from ssl_bf.optimizers import build_optimizer, peak_learning_rate
from ssl_bf.ranks.sharded_step import ShardedStep
from ssl_bf.run.build_method import build_method, without_init
from ssl_bf.run.training_state import restore, training_tensors
from ssl_bf.schedules import Elapsed, Plan
from ssl_bf.shards.turns import HeldShards
from ssl_bf.train import make_step

# Of a loss and of how far the state moved, where the order of sums is not that of the run; a step
# without its update is far off.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Replayed:
    """What came of a step that was made again.

    Attributes:
        facts: of the capture.
        loss: of this time.
        is_same: whether loss and state after it equal those of the run, bit for bit.
        is_close: whether the loss, and how far weights, optimizer and the rest moved, are those of
            the run up to rounding.
        promises_bits: False: several processes added as their backend likes, or a compiler did.
        first_wrong: where a number first broke; None: nowhere.
    """

    facts: StepFacts
    loss: float
    is_same: bool
    is_close: bool
    promises_bits: bool
    first_wrong: str | None


def replay(path: Path) -> Replayed:
    """Make the step of a file twice: as the run did, and looking at every operation.

    The shards of several processes are computed by this one. The second time may round otherwise:
    the looking is that of `ShardedStep`, also where the run had no need of it.

    Raises:
        InputError: it is no captured step, or one of a GPU where there is none.
    """
    captured = read(path)
    facts = captured.facts
    if facts.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"{path}: is a step of a GPU, and this machine has none, expected one of its kind; "
            "replay it there"
        )
    device = torch.device(facts.device)
    torch.set_num_threads(facts.threads)
    trained = _rebuilt(captured, device, ShardedStep)
    loss = float(make_step(trained, facts.step, _batch(captured, trained)).detach())
    after = training_tensors(trained.method, trained.optimizer)
    moved = changes(captured.before, after)
    speed = trained.config.speed
    return Replayed(
        facts,
        loss,
        is_same=loss.hex() == facts.loss and facts.outcome == digest(after),
        is_close=_are_close(facts.loss, loss.hex(), abs_tol=_ROUNDING**2)
        and all(_are_close(then, moved[kind]) for kind, then in facts.changes.items()),
        promises_bits=(facts.processes == 1 or speed.reduction == "ordered") and not speed.compile,
        first_wrong=_first_wrong(captured, device),
    )


def _are_close(then: str, now: str, *, abs_tol: float = 0.0) -> bool:
    one, other = float.fromhex(then), float.fromhex(now)
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return math.isclose(one, other, rel_tol=_ROUNDING, abs_tol=abs_tol)


def _rebuilt(captured: StepFile, device: torch.device, kind: Callable[..., ShardedStep]) -> Trained:
    """Network, optimizer and schedules as `build_run` makes them of no images, before the step.

    Args:
        captured: the step.
        device: where it is made again.
        kind: what makes it where a shard is not a process, or where it is not `ShardedStep`.
    """
    facts = captured.facts
    config = without_init(parse_config(PretrainConfig, yaml.safe_load(facts.config)).value)
    method = build_method(config, Classes.unnamed(facts.class_counts)).to(device)
    if config.speed.channels_last:
        method = method.to(memory_format=torch.channels_last)
    shards = HeldShards(facts.shards)
    fit_to_shards(method, config, shards)
    plan = Plan(
        steps_per_epoch=facts.steps_per_epoch,
        epochs=config.epochs,
        warmup_epochs=config.optimizer.warmup_epochs,
        peak_learning_rate=peak_learning_rate(config.optimizer, config.batch_size),
    )
    method.relation.check_steps(plan.steps_per_epoch, plan.total_steps)
    optimizer = build_optimizer(config.optimizer, method.parameter_groups())
    restore(method, optimizer, captured.before)
    method.train()
    is_ordered = config.speed.reduction == "ordered"
    in_bf16 = facts.precision == "bf16"
    sharded = kind(method, optimizer, shards, in_bf16=in_bf16, is_ordered=is_ordered)
    is_plain = kind is ShardedStep and facts.shards == 1 and not is_ordered
    return Trained(
        config=config,
        device=device,
        choices=Choices("bf16" if facts.precision == "bf16" else "float32", facts.threads),
        method=method,
        model=method,
        optimizer=optimizer,
        plan=plan,
        sharded=None if is_plain else sharded,
    )


def _batch(captured: StepFile, trained: Trained) -> Batch:
    batch = captured.batch.map(lambda tensor: tensor.to(trained.device))
    if not trained.config.speed.channels_last:
        return batch
    views = [view.to(memory_format=torch.channels_last) for view in batch.views]
    return replace(batch, views=tuple(views))


def _first_wrong(captured: StepFile, device: torch.device) -> str | None:
    """Where the first broken number of the step is made, looking at one thing after another."""
    views = {f"view {n}": view for n, view in enumerate(captured.batch.views, 1)}
    for what, tensors in (("before the step", captured.before), ("in the batch", views)):
        if broken := broken_names(tensors):
            return f"{what}: {broken[0]}" + _and_more(broken)
    found: list[Wrong] = []
    trained = _rebuilt(captured, device, partial(_WatchedStep, found))
    make_step(trained, captured.facts.step, _batch(captured, trained))
    return str(found[0]) if found else None


class _WatchedStep(ShardedStep):
    """Looks at every operation of a step, and remembers the first that broke something."""

    def __init__(self, found: list[Wrong], *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.found = found

    def compute(self, batch: Batch, context: StepContext, place: int) -> Tensor:
        with self._watching("forward", place):
            loss = super().compute(batch, context, place)
        first = self.found[0] if self.found else None
        if first is not None and (first.phase, first.shard) == ("backward", place):
            named = self.method(place).named_parameters()
            broken = [n for n, p in named if p.grad is not None and not p.grad.isfinite().all()]
            if broken:
                first.gradients = f"; first gradient: {broken[-1]}{_and_more(broken)}"
        return loss

    def change(self) -> None:
        with self._watching("update", 0):
            super().change()

    def after_step(self, progress: Elapsed, place: int) -> None:
        with self._watching("update", place):
            super().after_step(progress, place)

    @contextmanager
    def _watching(self, phase: Phase, place: int) -> Iterator[None]:
        watch = FirstWrong(self.method(place), self.found, phase, place)
        with watch.watching_modules(), watch:
            yield


def _and_more(names: list[str]) -> str:
    return "" if len(names) == 1 else f" and {len(names) - 1} more"

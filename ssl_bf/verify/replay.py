"""Make a captured step again, and say whether it is the same and where it first went wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import yaml
from torch import Tensor

from linear_eval.strict_config.reader import parse_config
from linear_eval.system.errors import InputError
from ssl_bf.build import Trained
from ssl_bf.captured.first_wrong import FirstWrong, broken_names
from ssl_bf.captured.step_file import StepFacts, StepFile, digest, read
from ssl_bf.choices.measured_choices import Choices
from ssl_bf.config import PretrainConfig
from ssl_bf.methods.classes import Classes
from ssl_bf.optimizers import build_optimizer, peak_learning_rate
from ssl_bf.run.build_method import build_method, without_init
from ssl_bf.run.training_state import restore, training_tensors
from ssl_bf.schedules import Plan
from ssl_bf.train import make_step, prepare


@dataclass(frozen=True)
class Replayed:
    """What came of a step that was made again.

    Attributes:
        facts: of the capture.
        loss: of this time.
        is_same: whether loss and state after it equal those of the run, bit for bit.
        first_wrong: where a number first broke; None: nowhere.
    """

    facts: StepFacts
    loss: float
    is_same: bool
    first_wrong: str | None


def replay(path: Path) -> Replayed:
    """Make the step of a file twice: as the run did, and looking at every operation.

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
    trained = _rebuilt(captured, device)
    batch = captured.batch.map(lambda tensor: tensor.to(device))
    if trained.config.speed.channels_last:
        batch = replace(
            batch, views=tuple(v.to(memory_format=torch.channels_last) for v in batch.views)
        )
    state = captured.before
    restore(trained.method, trained.optimizer, state)
    trained.model.train()
    loss = make_step(trained, facts.step, batch)
    is_same = float(loss.item()).hex() == facts.loss and facts.outcome == digest(
        training_tensors(trained.method, trained.optimizer)
    )
    return Replayed(facts, loss.item(), is_same, _first_wrong(captured, device))


def _rebuilt(captured: StepFile, device: torch.device) -> Trained:
    """Network, optimizer and schedules as `build_run` makes them, of no images."""
    facts = captured.facts
    config = without_init(parse_config(PretrainConfig, yaml.safe_load(facts.config)).value)
    method = build_method(config, Classes.unnamed(facts.class_counts)).to(device)
    if config.speed.channels_last:
        method = method.to(memory_format=torch.channels_last)
    method.relation.make_room(config.batch_size, config.views.size)
    method.compute_in_parts(config.accumulate, config.batch_size)
    method.backward_per_view = config.speed.per_view_backward
    plan = Plan(
        steps_per_epoch=facts.steps_per_epoch,
        epochs=config.epochs,
        warmup_epochs=config.optimizer.warmup_epochs,
        peak_learning_rate=peak_learning_rate(config.optimizer, config.batch_size),
    )
    method.relation.check_steps(plan.steps_per_epoch, plan.total_steps)
    return Trained(
        config=config,
        device=device,
        choices=Choices("bf16" if facts.precision == "bf16" else "float32", facts.threads),
        method=method,
        model=method,
        optimizer=build_optimizer(config.optimizer, method.parameter_groups()),
        plan=plan,
        sharded=None,
    )


def _first_wrong(captured: StepFile, device: torch.device) -> str | None:
    """Where the first broken number of the step is made, looking at one thing after another."""
    views = {f"view {n}": view for n, view in enumerate(captured.batch.views, 1)}
    for what, tensors in (("before the step", captured.before), ("in the batch", views)):
        if broken := broken_names(tensors):
            return f"{what}: {broken[0]}" + _and_more(broken)
    trained = _rebuilt(captured, device)
    restore(trained.method, trained.optimizer, captured.before)
    trained.model.train()
    watch = FirstWrong(trained.method)
    batch = captured.batch.map(lambda tensor: tensor.to(device))
    context, progress = prepare(trained, captured.facts.step)
    with watch.watching_modules(), watch:
        trained.optimizer.zero_grad()
        in_bf16 = trained.choices.precision == "bf16"
        with torch.autocast(device.type, torch.bfloat16, enabled=in_bf16):
            loss: Tensor = trained.model(batch, context)
        watch.phase = "backward"
        loss.backward()
        found = watch.says
        if found is not None and watch.phase == "backward" and "in backward" in found:
            named = dict(trained.method.named_parameters())
            broken = [n for n, p in named.items() if p.grad is not None and _bad(p.grad)]
            found += f"; first gradient: {broken[-1]}{_and_more(broken)}" if broken else ""
        watch.phase = "update"
        trained.optimizer.step()
        trained.method.after_step(progress)
    return found or watch.says


def _bad(value: Tensor) -> bool:
    return not bool(value.isfinite().all())


def _and_more(names: list[str]) -> str:
    return "" if len(names) == 1 else f" and {len(names) - 1} more"

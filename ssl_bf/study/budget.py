"""What all arms share: precision, threads, and as much of the budget as its rule says."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from linear_eval.system.cores import torch_threads
from linear_eval.system.device import choose_device
from linear_eval.system.errors import InputError
from linear_eval.system.screen import say
from ssl_bf.build import Run, build_run
from ssl_bf.choices.measured_choices import choose
from ssl_bf.config import PretrainConfig
from ssl_bf.study.arms import Arm
from ssl_bf.study.record import Choices
from ssl_bf.study.study_file import StudyConfig
from ssl_bf.train import prepare, update_of


def shared_choices(threads_there: int, arms: Sequence[Arm], known: Choices) -> Choices:
    """Precision and threads of every run; what is known already stays, whatever `jobs` is by now.

    Args:
        threads_there: of a run, where the study does not say.
        arms: of which the first that leaves its precision open is measured, for half a second.
        known: chosen earlier.
    """
    given = {arm.config.speed.threads for arm in arms}
    assert len(given) == 1, given  # arms share speed.*
    asked = given.pop()
    threads = known.threads
    if threads is None:
        threads = asked if isinstance(asked, int) else threads_there
        say(f"threads: {threads} in every run")
    open_ones = [arm for arm in arms if arm.config.precision == "auto"]
    precision = known.precision
    if precision is None and open_ones:
        config = _with_threads(open_ones[0].config, threads)
        with torch_threads(threads):
            chosen = choose(config, choose_device(config.speed.device))
        precision = chosen.precision
        say(f"precision: {precision} in every run that leaves it open")
    return replace(known, threads=threads, precision=precision)


def run_overrides(arm: Arm, choices: Choices) -> list[str]:
    """What the study chose, as overrides of an arm's config."""
    texts = [f"speed.threads={choices.threads}"]
    if arm.config.precision == "auto":
        texts.append(f"precision={choices.precision}")
    if arm.name in choices.epochs:
        texts.append(f"epochs={choices.epochs[arm.name]}")
    return texts


def equal_seconds(study: StudyConfig, arms: Sequence[Arm], known: Choices) -> Choices:
    """Epochs of every arm that take the same time, for arms that have none yet.

    A run makes whole epochs, so the times are equal up to half an epoch; what was measured and
    chosen is said.

    Args:
        study: the rule.
        arms: the first sets the time, where budget.seconds does not.
        known: with precision and threads.

    Raises:
        InputError: an epoch of an arm takes longer than all of its time; says what would fit.
    """
    if study.budget.rule != "seconds":
        return known
    speeds, epochs = dict(known.seconds_per_epoch), dict(known.epochs)
    for arm in arms:
        if arm.name not in speeds:
            speeds[arm.name] = _seconds_per_epoch(arm, known)
    first = arms[0]
    seconds = study.budget.seconds or first.config.epochs * speeds[first.name]
    for arm in arms:
        if arm.name in epochs:
            continue
        epochs[arm.name] = math.floor(seconds / speeds[arm.name] + 0.5)
        warm_up = arm.config.optimizer.warmup_epochs
        if epochs[arm.name] <= warm_up:
            least = (math.floor(warm_up) + 1) * speeds[arm.name]
            raise InputError(
                f"budget.seconds: {seconds:.3g} s are {epochs[arm.name]} epochs of {arm.name}, of "
                f"which {warm_up:g} warm up, expected more than that; {least:.3g} s would fit"
            )
        took = epochs[arm.name] * speeds[arm.name]
        say(
            f"budget: {arm.name} gets {epochs[arm.name]} epochs, {took:.3g} s of {seconds:.3g} s "
            f"({speeds[arm.name]:.3g} s an epoch, measured)"
        )
    return replace(known, seconds_per_epoch=speeds, epochs=epochs)


def seconds_per_step(run: Run, *, warm_up: int = 3, steps: int = 12) -> float:
    """Median seconds of a few steps from the beginning of a run, which is spent by that.

    Args:
        run: from `build_run`; nothing of it is written.
        warm_up: steps that are not counted.
        steps: that are; fewer where the run has fewer.
    """
    run.model.train()
    update, seconds = update_of(run), []
    with run.loader:
        for step in range(min(warm_up + steps, run.plan.total_steps)):
            started = time.monotonic()
            loss = update(run.loader.batch(step), *prepare(run, step))
            loss.item()  # waits for the device
            seconds.append(time.monotonic() - started)
    return statistics.median(seconds[warm_up:] or seconds)


def _seconds_per_epoch(arm: Arm, choices: Choices) -> float:
    assert choices.threads is not None, choices
    config = _with_threads(arm.config, choices.threads)
    if config.precision == "auto" and choices.precision is not None:
        config = replace(config, precision=choices.precision)
    before = torch.get_num_threads()
    run = build_run(config)
    try:
        return seconds_per_step(run) * run.plan.steps_per_epoch
    finally:
        torch.set_num_threads(before)


def _with_threads(config: PretrainConfig, threads: int) -> PretrainConfig:
    return replace(config, speed=replace(config.speed, threads=threads, like=None))

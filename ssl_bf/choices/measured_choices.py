"""Precision and number of threads of a run: what `auto` means here, measured before its first step.

The measurement uses its own backbone and images, so it changes nothing in the run. The choice is
kept in every checkpoint; `resume` measures nothing, nor does a run that takes the choice of another
one (`speed.like`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from linear_eval.features.measured_threads import (
    fastest,
    long_enough,
    seconds_by_threads,
    seconds_by_turns,
)
from linear_eval.system.cores import asked_threads, torch_threads, usable_cores
from linear_eval.system.distributed import broadcast_from_main, is_main, world_size
from linear_eval.system.errors import InputError
from ssl_bf.choices.allocator import keep_freed_memory
from ssl_bf.config import PretrainConfig
from ssl_bf.parts.frozen_stages import freeze_stages
from ssl_bf.run.checkpoint import load_newest

Precision = Literal["float32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
WORTH_IT = 1.02  # times as fast as float32 bf16 must be: less may be noise, and costs digits


@dataclass(frozen=True)
class Choices:
    """What a run computes with.

    Attributes:
        precision: of its steps.
        threads: of torch on the CPU, >= 1.
        notes: lines for the log.
        seconds_per_view: of the backbone, forward and backward; None where nothing was measured.
    """

    precision: Precision
    threads: int
    notes: tuple[str, ...] = ()
    seconds_per_view: float | None = None


@dataclass(frozen=True)
class _Kept:
    """What another start computed with; threads None: earlier versions saved none."""

    precision: Precision
    threads: int | None
    where: str


def choose(
    config: PretrainConfig, device: torch.device, begun: Mapping[str, Any] | None = None
) -> Choices:
    """What the run computes with: the same in every process, measured by the main one.

    On a CPU that takes about half a second, a few for large networks.

    Args:
        config: the whole run.
        device: of its steps.
        begun: state of the checkpoint of a run that goes on; None: it begins.

    Raises:
        InputError: the checkpoint does not say what the run began with, or the device cannot
            compute in its precision; or that of `speed.like`.
    """
    kept = _kept_by(config) if begun is None else _checked(begun, config, "checkpoint")
    threads, note_1, took_1 = _threads(config, device, kept)
    with torch_threads(threads):
        precision, note_2, took_2 = _precision(config, device, kept, goes_on=begun is not None)
    if world_size() > 1:
        both = torch.tensor([PRECISIONS.index(precision), threads], device=device)
        index, threads = broadcast_from_main(both).tolist()
        precision = PRECISIONS[index]
    if precision == "bf16" and device.type == "cuda" and not _has_bf16(emulated=True):
        raise InputError(
            "precision: bf16, which this GPU cannot compute in; start a new run with "
            "precision=float32, or go on with one begun in bf16 on another GPU or the CPU"
        )
    notes = tuple(line for line in (note_2, note_1) if line)
    return Choices(precision, threads, notes, took_2 or took_1)


def seconds_of_threads(
    config: PretrainConfig, precision: Precision, cores: int
) -> dict[int, float]:
    """Seconds of the backbone's forward and backward per view, by number of threads to `cores`."""
    step, most = _trial(config, precision)
    with torch_threads(cores):
        images = long_enough(step, most)
    seconds = seconds_by_threads(partial(step, images), cores)
    return {threads: took / images for threads, took in seconds.items()}


def seconds_of_precisions(config: PretrainConfig) -> dict[Precision, float]:
    """Seconds per view that forward and backward take at best, with torch's threads of now.

    With one it is the thread's own time, from which other processes take nothing.
    """
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    trials = {name: _trial(config, name) for name in PRECISIONS}
    step, most = trials["float32"]
    images = long_enough(step, most, clock)
    steps = {name: partial(step, images) for name, (step, _) in trials.items()}
    steps["bf16"]()  # makes what libraries keep; float32 has
    return {name: min(took) / images for name, took in seconds_by_turns(steps, clock).items()}


def _kept_by(config: PretrainConfig) -> _Kept | None:
    """What the run that `speed.like` names computed with."""
    like = config.speed.like
    if like is not None and not Path(like).is_dir():
        raise InputError(f"speed.like: {like} is no directory, expected that of a run; correct it")
    if like is None:
        return None
    kept = _checked(load_newest(Path(like)).state, config, f"speed.like: the checkpoint of {like}")
    return replace(kept, where=f"as in {like}")


def _checked(begun: Mapping[str, Any], config: PretrainConfig, whose: str) -> _Kept:
    """The state of a checkpoint; versions that knew no `auto` saved neither of both."""
    precision, threads = begun.get("precision"), begun.get("threads")
    if precision is None and config.precision != "auto":
        precision = config.precision
    is_number = threads is None or (type(threads) is int and threads > 0)
    if precision not in PRECISIONS or not is_number:
        raise InputError(
            f"{whose}: says that its run computes in precision {precision} with {threads} "
            f"threads, expected {' or '.join(PRECISIONS)} and a number >= 1, because another run "
            "would not be the same; restore it from a backup"
        )
    return _Kept(precision, threads, "as the run began")


def _threads(
    config: PretrainConfig, device: torch.device, kept: _Kept | None
) -> tuple[int, str, float | None]:
    """The number, a line for the log, and the seconds per view that were measured."""
    asked = config.speed.threads
    if isinstance(asked, int):
        return asked, "", None
    if asked is None:
        return torch.get_num_threads(), "", None
    cores = usable_cores()
    if asked == "auto" and kept is not None and kept.threads is not None:
        note = f"threads: {kept.threads}, {kept.where}"
        if kept.threads > cores:
            note = (
                f"warning: {note}, but this process may use {cores} core(s) now: speed.threads="
                f"{cores} is likely faster, and changes last digits"
            )
        return kept.threads, note, None
    if (of_user := asked_threads()) is not None:
        return of_user, f"threads: {of_user}, as OMP_NUM_THREADS says", None
    if device.type != "cpu" or cores == 1 or not is_main():
        return cores, "", None
    precision = "float32" if config.precision == "auto" else config.precision
    seconds = seconds_of_threads(config, precision, cores)
    best = fastest(seconds)
    return best, f"threads: {best} of {cores} cores, {_compared(seconds, best)}", seconds[best]


def _compared(seconds: Mapping[int, float], best: int) -> str:
    other = max(count for count in seconds if count != best)
    return f"measured {seconds[other] / seconds[best]:.1f} times as fast as {other}"


def _precision(
    config: PretrainConfig, device: torch.device, kept: _Kept | None, *, goes_on: bool
) -> tuple[Precision, str, float | None]:
    """The precision, a line for the log, and the seconds per view that were measured."""
    asked = config.precision
    if kept is not None and (goes_on or asked == "auto"):
        note = f"precision: {kept.precision}, {kept.where}" if asked == "auto" else ""
        return kept.precision, note, None
    if device.type != "cpu":
        if asked != "auto":
            return asked, "", None
        fitting: Precision = "bf16" if _has_bf16(emulated=False) else "float32"
        return fitting, f"precision: {fitting}, as suits this GPU", None
    if asked == "float32" or not is_main():
        return "float32", "", None
    seconds = seconds_of_precisions(config)
    times = seconds["float32"] / seconds["bf16"]
    if asked == "bf16":
        slow = times < 1 / WORTH_IT
        note = (
            f"warning: precision=bf16 is slow here, measured {times:.2g} times as fast as float32; "
            "precision=auto takes the faster one"
        )
        return asked, note if slow else "", seconds[asked]
    best: Precision = "bf16" if times >= WORTH_IT else "float32"
    ratio, other = (times, "float32") if best == "bf16" else (1 / times, "bf16")
    note = f"precision: {best}, measured {ratio:.2g} times as fast as {other} here"
    return best, note, seconds[best]


def _has_bf16(*, emulated: bool) -> bool:
    return bool(torch.cuda.is_bf16_supported(including_emulation=emulated))


def _trial(config: PretrainConfig, precision: Precision) -> tuple[Callable[[int], None], int]:
    """One trial: forward and backward of some images, so many of them at once."""
    keep_freed_memory()
    layout = torch.channels_last if config.speed.channels_last else torch.contiguous_format
    most = config.batch_size // world_size() // config.accumulate
    with torch.random.fork_rng(devices=[]):
        network = config.backbone.build()
        freeze_stages(network, config.backbone.frozen_stages)
        views = torch.randn(most, 3, config.views.size, config.views.size)
    if precision == "bf16":
        # Autocast does this at each step: for few images it would take more than their share.
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.to(torch.bfloat16)
    network, views = network.to(memory_format=layout), views.to(memory_format=layout)
    trained = [p for p in network.parameters() if p.requires_grad]

    def step(images: int) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            features = network(views[:images])
        torch.autograd.grad(features.float().square().mean(), trained)

    return step, most

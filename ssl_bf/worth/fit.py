"""What fits into the time that was given, from a few measured steps."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from linear_eval.system.cores import asked_threads, torch_threads, usable_cores
from linear_eval.system.errors import InputError
from linear_eval.system.screen import say
from ssl_bf.build import build_run
from ssl_bf.scan.scan import Scan
from ssl_bf.study.budget import seconds_per_step
from ssl_bf.worth.plan import Plan, Rung
from ssl_bf.worth.recipes import CANDIDATES, Candidate, Setting

BUDGETS = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # labels per class
# from small to large
_ON_GPU = (({"name": "resnet18"}, 96), ({"name": "resnet50", "stem": "imagenet"}, 128))
_ON_CPU = (({"name": "small_conv"}, 32), ({"name": "small_conv"}, 64))
_ROOM = 2.5  # times the least epochs: only then is the next one measured, which takes time itself
# of the time; what is left is for judging and for surprises
_FIRST, _SECOND, _FINAL, _FEW_LABELS = 0.15, 0.10, 0.45, 0.1
_UNHURRIED = 900.0  # seconds from which on labels are drawn several times
_BATCHES = (128, 64, 32, 16)
_LEAST_EPOCHS = 20  # in the end, for a larger network or larger images to be worth it
_LEAST_STEPS = 50  # of any run: fewer tell nothing
_SUPERVISED_STEP = 0.5  # of a step of pretraining: one view of each image, no slow copy
_SUPERVISED_STEPS = 200  # at most, with few labels
_SLOWER = 1.2  # than in a short measurement: logs, checkpoints, other processes


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast this machine is.

    Attributes:
        step: seconds of a step of pretraining.
        start: seconds until a run makes its first.
    """

    step: float
    start: float


def make_plan(
    scan: Scan,
    root: Path,
    *,
    minutes: float,
    deadline: float,
    jobs: int | None,
    starts: Sequence[Candidate] = (),
) -> Plan:
    """Measure, and choose the best that fits.

    Args:
        scan: of the images.
        root: where they are.
        minutes: in all.
        deadline: when they end, on the monotonic clock.
        jobs: runs at a time; None: one per core, or one on a GPU.
        starts: candidates besides those from scratch.

    Raises:
        InputError: nothing fits; says what would.
    """
    on_gpu = torch.cuda.is_available()
    jobs = jobs or (1 if on_gpu else min(4, usable_cores()))
    threads = asked_threads() or (usable_cores() if on_gpu else max(1, usable_cores() // jobs))
    start, train = _seconds_to_start(), scan.parts["train"]
    plan: Plan | None = None
    for backbone, size in _ON_GPU if on_gpu else _ON_CPU:
        setting = Setting(
            root=str(root.absolute()),
            backbone=backbone,
            size=size,
            precision="bf16" if on_gpu else "float32",
            threads=threads,
            batch_size=_batch_size(train),
        )
        pace = _measured(setting, CANDIDATES[0], train, start)
        say(f"plan: {backbone['name']} at {size} px takes {pace.step:.2g} s a step")
        seconds = deadline - time.monotonic()
        slowed = [
            replace(each, slower=_measured(setting, each, train, start).step / pace.step)
            for each in starts
        ]
        larger = fitting(setting, scan, pace, seconds=seconds, jobs=jobs, starts=slowed)
        if plan is not None and (larger is None or larger.epochs < _LEAST_EPOCHS):
            break
        if larger is None:
            needed = least_seconds(pace, train // setting.batch_size)
            would_fit = math.ceil((60 * minutes - seconds + needed) / 60)
            raise InputError(
                f"--minutes: of {minutes:g} {max(0.0, seconds) / 60:.1f} are left now, too few to "
                f"train anything here; --minutes {would_fit} would fit"
            )
        plan = larger
        if plan.epochs < _ROOM * _LEAST_EPOCHS:
            break
    assert plan is not None
    return plan


def least_seconds(pace: Pace, steps_per_epoch: int) -> float:
    """Time for the smallest plan: one short run with labels, one without."""
    steps = steps_per_epoch * math.ceil(_LEAST_STEPS / steps_per_epoch)
    training = 2 * pace.start + (1 + _SUPERVISED_STEP) * steps * pace.step * _SLOWER
    return training / (_FIRST + _SECOND + _FINAL)


def fitting(
    setting: Setting,
    scan: Scan,
    pace: Pace,
    *,
    seconds: float,
    jobs: int,
    starts: Sequence[Candidate] = (),
) -> Plan | None:
    """The plan for one network and image size; None where nothing fits.

    Shares of the time are fixed: rounds that choose; the winner, and with it the network from
    scratch, which gets as many passes over the images.
    """
    steps = scan.parts["train"] // setting.batch_size
    epoch = steps * pace.step * _SLOWER

    def epochs_in(share: float, runs: int, *, both: bool = False) -> int:
        """Epochs of each of `runs` runs; `both`: each beside one that learns from labels."""
        own = share * seconds / math.ceil(runs / jobs) - (1 + both) * pace.start
        return math.floor(own / (epoch * (1 + _SUPERVISED_STEP * both)))

    def is_enough(epochs: int) -> bool:
        return epochs >= 1 and epochs * steps >= _LEAST_STEPS

    # first: whoever names a file wants to know; but an epoch must fit
    everyone = (*(each for each in starts if each.slower <= epochs_in(_FIRST, 1)), *CANDIDATES)
    counts = [n for n in range(len(everyone), 1, -1) if is_enough(epochs_in(_FIRST, n))]
    count = counts[0] if counts else 1
    rungs = []
    final, labelled = _FINAL, scan.is_labelled
    if count > 1:
        rungs.append(Rung(kept=count, epochs=epochs_in(_FIRST, count)))
    else:
        final += _FIRST
    if count > 3 and epochs_in(_SECOND, 2) > rungs[0].epochs:
        rungs.append(Rung(kept=2, epochs=epochs_in(_SECOND, 2)))
    else:
        final += _SECOND
    in_each = {seeds: epochs_in(final, seeds, both=labelled) for seeds in (3, 2, 1)}
    seeds = 3 if in_each[3] >= _LEAST_EPOCHS else 2 if is_enough(in_each[2]) else 1
    if not is_enough(in_each[seeds]):
        return None
    few = _supervised_budgets(scan, pace, seconds=seconds, jobs=jobs) if labelled else ()
    return Plan(
        setting=setting,
        jobs=jobs,
        candidates=everyone[:count],
        rungs=tuple(rungs),
        epochs=in_each[seeds],
        seeds=seeds,
        budgets=budgets_of(scan, seconds),
        supervised_budgets=few,
        draws=3 if seconds >= _UNHURRIED else 1,
        seconds=seconds,
    )


def budgets_of(scan: Scan, seconds: float) -> tuple[int, ...]:
    """Labels per class, clearly fewer than half of the classes have; in a hurry fewer numbers."""
    share = scan.parts["train"] / scan.images
    counts = sorted(scan.classes.values())
    middle = share * counts[len(counts) // 2] if counts else 0
    budgets = BUDGETS if seconds >= _UNHURRIED else BUDGETS[::2]
    return tuple(budget for budget in budgets if 1.5 * budget <= middle)


def _supervised_budgets(scan: Scan, pace: Pace, *, seconds: float, jobs: int) -> tuple[int, ...]:
    """As many as fit into a tenth of the time, spread over all."""
    each = pace.start + _SUPERVISED_STEPS * pace.step * _SUPERVISED_STEP
    fit = math.floor(_FEW_LABELS * seconds / each) * jobs
    budgets = budgets_of(scan, seconds)
    if fit >= len(budgets):
        return budgets
    return tuple(budgets[round((i + 0.5) * len(budgets) / fit - 0.5)] for i in range(fit))


def supervised_epochs_with(images: int, batch_size: int) -> int:
    """Epochs of a network that learns from so few images."""
    return max(1, min(100, _SUPERVISED_STEPS // max(1, images // batch_size)))


def _batch_size(images: int) -> int:
    return next((size for size in _BATCHES if images >= 8 * size), _BATCHES[-1])


def _measured(setting: Setting, candidate: Candidate, images: int, start: float) -> Pace:
    began = time.monotonic()
    config = setting.pretraining(candidate, 10, images)
    with torch_threads(setting.threads):
        run = build_run(config)
        step = seconds_per_step(run, warm_up=2, steps=4)
    # a run reads the images as this one did, but for its few steps
    reading = max(0.0, time.monotonic() - began - 6 * step)
    return Pace(step=step, start=start + reading)


def _seconds_to_start() -> float:
    began = time.monotonic()
    # a group of its own: Ctrl-C is for us, who end it
    command = [sys.executable, "-c", "import torchvision, ssl_bf.train"]
    subprocess.run(command, check=True, process_group=0)
    return time.monotonic() - began

"""What of a study is done, running and missing, and when it will be done. Needs no torch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from linear_eval.system.folder_lock import InUseError, sole_use
from linear_eval.system.printable import aligned
from ssl_bf.study.record import read_record
from ssl_bf.study.run_folder import BACKBONE, TRIALS, StudyRun, runs_of
from ssl_bf.study.study_file import StudyConfig


def status_lines(study: StudyConfig) -> list[str]:
    """A line per run, and one that sums them up.

    Raises:
        InputError: the folder holds something else.
    """
    folder = Path(study.directory)
    read_record(folder)
    runs = runs_of(folder, [arm.name for arm in study.arms], study.seeds)
    rows, counts = [], dict.fromkeys(("judged", "trained", "running", "stopped", "missing"), 0)
    for run in runs:
        state = state_of(run)
        counts[state] += 1
        made, of = run.steps()
        numbers = f"{made}/{of}" if of else "-"
        rows.append([run.name, state, numbers, f"{run.seconds():,.0f}"])
    lines = aligned(["run", "state", "steps", "seconds"], rows)
    if tried := study.learning_rates.seeds:
        of = len(tried) * len(study.learning_rates.factors) * len(study.arms)
        done = len([*(folder / TRIALS).glob(f"*/*/seed-*/{BACKBONE}")])
        lines.append(f"learning rates: {done} of {of} runs tried")
    listed = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return [*lines, f"{listed}; {eta(runs, study)}"]


def state_of(run: StudyRun) -> str:
    """As `StudyRun.stage`, where what was begun is running or stopped."""
    stage = run.stage()
    if stage != "begun":
        return stage
    try:
        with sole_use(run.directory):
            return "stopped"
    except InUseError:
        return "running"
    except OSError:
        return "stopped"  # a folder that we may only read


def eta(runs: Sequence[StudyRun], study: StudyConfig) -> str:
    """How long training will go on, from the seconds that steps took so far."""
    left = seconds_left(runs, study.jobs)
    if left is None:
        return "no run has made a step yet, so nothing tells how long it will take"
    return "all trained" if not left else f"about {in_words(left)} of training left"


def seconds_left(runs: Sequence[StudyRun], jobs: int) -> float | None:
    """Of training, `jobs` at a time; None while no step says how long one takes."""
    speeds: dict[str, list[float]] = {}
    lengths: dict[str, int] = {}
    for run in runs:
        made, of = run.steps()
        if of:
            lengths[run.arm] = of
        if made and run.seconds():
            speeds.setdefault(run.arm, []).append(run.seconds() / made)
    if not speeds:
        return None
    usual = statistics.fmean(each for found in speeds.values() for each in found)
    longest = max(lengths.values())
    left = 0.0
    for run in runs:
        if run.stage() in ("trained", "judged"):
            continue
        per_step = statistics.fmean(speeds.get(run.arm, [usual]))
        left += (lengths.get(run.arm, longest) - run.steps()[0]) * per_step
    return left / min(jobs, len(runs))


def in_words(seconds: float) -> str:
    """Such as 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

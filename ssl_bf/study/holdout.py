"""What is decided on the hold-out, before a test image is seen.

Each arm's learning rate, with seeds of its own; and how many seeds a study needs, from the spread
of a few (the pilot).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from linear_eval.comparison.paired_test import pairs_needed
from linear_eval.system.errors import InputError
from linear_eval.system.printable import aligned
from linear_eval.system.screen import say
from ssl_bf.study.arms import Arm
from ssl_bf.study.run_folder import StudyRun, runs_of
from ssl_bf.study.study_file import StudyConfig

PILOT_SEEDS = 3


def trial_runs(study: StudyConfig, arms: Iterable[str]) -> list[StudyRun]:
    """The runs that decide, seed by seed."""
    asked = study.learning_rates
    return [
        StudyRun(study=Path(study.directory), arm=arm, seed=seed, factor=factor)
        for seed in asked.seeds
        for arm in arms
        for factor in asked.factors
    ]


def rate_override(arm: Arm, factor: float) -> str:
    """The arm's rate times a factor."""
    rate = arm.config.optimizer.base_learning_rate * factor
    return f"optimizer.base_learning_rate={rate!r}"


def chosen_factors(runs: Sequence[StudyRun], arms: Iterable[str]) -> dict[str, float]:
    """By arm, the factor whose runs name most of the hold-out rightly; ties by the one nearest 1.

    A run that failed (its loss became infinite) counts as 0 %.

    Args:
        runs: of `trial_runs`, all ended.
        arms: to choose for.

    Raises:
        InputError: nobody looked at the hold-out.
    """
    chosen = {}
    for arm in arms:
        scores: dict[float, list[float]] = {}
        for run in runs:
            if run.arm == arm and run.factor is not None:
                scores.setdefault(run.factor, []).append(holdout_of(run))
        means = {factor: statistics.fmean(found) for factor, found in scores.items()}
        best = max(means, key=lambda factor: (means[factor], -abs(factor - 1)))
        listed = ", ".join(f"x {factor:g}: {mean:.1f}" for factor, mean in means.items())
        edge = " (at the edge: try wider factors)" if best in (min(means), max(means)) else ""
        say(f"learning rate of {arm}: x {best:g}{edge}, hold-out k-NN in percent by {listed}")
        chosen[arm] = best
    return chosen


def holdout_of(run: StudyRun) -> float:
    """Percent; 0 of a run that failed.

    Raises:
        InputError: the run ended well, but has no hold-out.
    """
    if run.stage() not in ("trained", "judged"):
        return 0.0
    found = run.holdout()
    if found is None:
        raise InputError(
            f"{run.directory}: no k-NN monitor has seen its hold-out; set data.holdout=0.1 and "
            "run.monitor_every=10, and see that the images have labels"
        )
    return found


def pilot_runs(study: StudyConfig) -> list[StudyRun]:
    """The first seeds of the study; it goes on from there."""
    names = [arm.name for arm in study.arms]
    return runs_of(Path(study.directory), names, study.seeds[:PILOT_SEEDS])


def pilot_lines(study: StudyConfig, runs: Sequence[StudyRun]) -> list[str]:
    """What the trained runs of a pilot say about every contrast.

    Raises:
        InputError: nobody looked at the hold-out.
    """
    of_arm: dict[str, list[float]] = {}
    for run in runs:
        of_arm.setdefault(run.arm, []).append(holdout_of(run))
    rows, most = [], 0
    for arm, against, margin in dict.fromkeys(
        (each.arm, each.against, each.margin) for each in study.contrasts
    ):
        found = [a - b for a, b in zip(of_arm[arm], of_arm[against], strict=True)]
        spread = statistics.stdev(found)
        needed = pairs_needed(spread, margin)
        most = max(most, needed or 1001)
        said = "more than 1,000" if needed is None else str(needed)
        rows.append([f"{arm} - {against}", f"{spread:.2f}", f"+-{margin:g}", said])
    headings = ["contrast", "sd of differences", "margin", "seeds needed"]
    seeds = len(of_arm[study.arms[0].name])
    last = (
        f"the study has {len(study.seeds)} seeds, enough"
        if most <= len(study.seeds)
        else f"the study has {len(study.seeds)} seeds; give it more, or wider margins"
    )
    return [
        f"pilot: {seeds} seeds, k-NN on the hold-out in percent; no test image was looked at",
        *aligned(headings, rows),
        f"{last} (a spread from {seeds} seeds is rough)",
    ]

"""How many seeds a study needs, from the spread of a few; only the hold-out is looked at."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from linear_eval.comparison.paired_test import pairs_needed
from linear_eval.system.printable import aligned
from ssl_bf.study.learning_rates import holdout_of
from ssl_bf.study.run_folder import StudyRun, runs_of
from ssl_bf.study.study_file import StudyConfig

PILOT_SEEDS = 3


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

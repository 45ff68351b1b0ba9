"""Several pretraining runs per side: intervals over seeds, not over test images."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from linear_eval.comparison.student_t import paired_t_interval, welch_interval
from linear_eval.results.intervals import Interval
from linear_eval.results.results_file import Results
from linear_eval.system.errors import InputError

INTERVAL_MEANING = "95 %, pretraining seeds on these test images"


@dataclass(frozen=True, kw_only=True)
class RunsDifference:
    """One metric of two groups of runs, in percent.

    Attributes:
        metric: its key.
        a: mean over the runs of side A.
        a_std: standard deviation over them (n - 1).
        b: mean over the runs of side B.
        b_std: likewise.
        difference: b - a.
        interval: 95 %, of the difference.
    """

    HEADINGS: ClassVar[tuple[str, ...]] = ("A", "sd", "B", "sd", "B - A", "95 % interval")

    metric: str
    a: float
    a_std: float
    b: float
    b_std: float
    difference: float
    interval: Interval

    def cells(self) -> list[str]:
        """One text for each of `HEADINGS`."""
        low, high = self.interval
        numbers = [f"{value:.2f}" for value in (self.a, self.a_std, self.b, self.b_std)]
        return [*numbers, f"{self.difference:+.2f}", f"[{low:+.2f}, {high:+.2f}]"]


def pair_runs(a: Sequence[Results], b: Sequence[Results]) -> tuple[list[Results], str]:
    """Which run of B belongs to each run of A: that of its pretraining seed.

    Where a file does not know its seed, the order given decides.

    Args:
        a: two or more runs.
        b: as many.

    Returns:
        B in the order of A, and the pairs in words.

    Raises:
        InputError: a seed is twice on one side, or on one side only.
    """
    known = [run.seed for run in (*a, *b)]
    if None in known:
        pairs = ", ".join(f"{one.path} with {other.path}" for one, other in zip(a, b, strict=True))
        return list(b), f"in the order given, because not every file knows its seed: {pairs}"
    of_seed = {run.seed: run for run in b}
    seeds = known[: len(a)]
    if len({*seeds}) < len(a) or {*seeds} != {*of_seed}:
        listed = [", ".join(map(str, side)) for side in (seeds, known[len(a) :])]
        raise InputError(
            f"--paired: the pretraining seeds of A are {listed[0]}, those of B {listed[1]}, "
            "expected the same ones, each once; give matching runs, or leave --paired out"
        )
    return [of_seed[seed] for seed in seeds], f"by pretraining seed: {', '.join(map(str, seeds))}"


def runs_differences(
    a: Sequence[dict[str, float]], b: Sequence[dict[str, float]], *, paired: bool
) -> list[RunsDifference]:
    """The difference in every metric that all runs have, in the order of the first.

    Args:
        a: metrics of two or more runs, in percent.
        b: likewise; as many, and in the order of `pair_runs`, if `paired`.
        paired: run i of either side belongs together.
    """
    interval_of = paired_t_interval if paired else welch_interval
    found = []
    for key in a[0]:
        if not all(key in metrics for metrics in (*a, *b)):
            continue
        of_a, of_b = ([metrics[key] for metrics in side] for side in (a, b))
        mean_a, mean_b = statistics.fmean(of_a), statistics.fmean(of_b)
        found.append(
            RunsDifference(
                metric=key,
                a=mean_a,
                a_std=statistics.stdev(of_a),
                b=mean_b,
                b_std=statistics.stdev(of_b),
                difference=mean_b - mean_a,
                interval=interval_of(of_a, of_b),
            )
        )
    return found


def runs_notes(num_a: int, num_b: int, pairs: str | None) -> list[str]:
    """What the intervals cover and what not, in plain words; `pairs` are those of `pair_runs`."""
    how = f"Welch t, {num_a} runs against {num_b}"
    if pairs is not None:
        how = f"paired t over {num_a} pairs of runs, {pairs}"
    return [
        f"intervals: {how}: how far other pretraining seeds would move the difference, if runs "
        "scatter like normal numbers",
        "all on the same test images: says nothing about other test images, nor about other data",
    ]

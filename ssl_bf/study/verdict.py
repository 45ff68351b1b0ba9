"""A contrast in numbers and in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from linear_eval.comparison.paired_test import (
    ALPHA,
    PairedTest,
    bootstrap_interval,
    holm,
    paired_test,
    pairs_needed,
)
from linear_eval.results.intervals import Interval


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A contrast in one metric, before it is answered.

    Attributes:
        arm: whose metric,
        against: minus whose.
        metric: as results.json has it.
        margin: in points.
        stated_before: the first run.
    """

    arm: str
    against: str
    metric: str
    margin: float
    stated_before: bool

    @property
    def name(self) -> str:
        """Of the contrast."""
        return f"{self.arm} - {self.against}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a study says about a contrast in one metric.

    Attributes:
        asked: what was.
        test: of the differences by seed.
        bootstrap: 95 % interval of their mean, from resampled seeds.
        p_holm: see `answer`.
        seeds_missing: where one of both runs failed.
    """

    asked: Asked
    test: PairedTest
    bootstrap: Interval
    p_holm: float
    seeds_missing: int = 0

    @property
    def more_seeds(self) -> int | None:
        """How many more make the interval as narrow as the margin; None: more than 1,000."""
        needed = pairs_needed(self.test.spread, self.asked.margin)
        return None if needed is None else max(0, needed - self.test.pairs)

    @property
    def sentence(self) -> str:
        """The difference, its interval, and what that means."""
        low, high = self.test.interval
        numbers = f"{_signed(self.test.mean)} points, 95 % interval {_signed(low)} to "
        missing = f" ({self.seeds_missing} pair(s) missing)" if self.seeds_missing else ""
        return f"{numbers}{_signed(high)}: {self._meaning()}{missing}"

    def _meaning(self) -> str:
        margin, equal = f"+-{self.asked.margin:g}", self.test.is_equivalent
        if self.p_holm < ALPHA:
            how = "better" if self.test.mean > 0 else "worse"
            less = f", but by less than {self.asked.margin:g}" if equal else ""
            return f"{self.asked.arm} is {how} than {self.asked.against}{less}"
        if equal:
            return f"equal within {margin}"
        if not self.test.spread:
            return f"the same in {self.test.pairs} pairs, too few to tell"
        more = self.more_seeds
        among_many = "no claim among so many contrasts"
        said = among_many if self.test.p < ALPHA else "inside the noise"
        if more is None:
            return f"{said}; even 1,000 seeds would not settle {margin}"
        if not more:
            return f"{said}; the difference may be as large as the margin of {margin}"
        return f"{said}; {more} more seed{'s' * (more > 1)} would settle {margin}"

    def as_json(self) -> dict[str, Any]:
        """An entry of `contrasts` in study.json."""
        return {
            "name": self.asked.name,
            "arm": self.asked.arm,
            "against": self.asked.against,
            "metric": self.asked.metric,
            "pairs": self.test.pairs,
            "pairs_missing": self.seeds_missing,
            "difference": self.test.mean,
            "spread": self.test.spread,
            "interval": list(self.test.interval),
            "bootstrap_interval": list(self.bootstrap),
            "p": self.test.p,
            "p_holm": self.p_holm,
            "margin": self.asked.margin,
            "p_equivalence": self.test.p_equivalence,
            "equivalent": self.test.is_equivalent,
            "more_seeds": self.more_seeds,
            "stated_before": self.asked.stated_before,
            "sentence": self.sentence,
        }


def answer(
    asked: Sequence[Asked],
    values: Mapping[str, Mapping[int, Mapping[str, float]]],
    seeds: Sequence[int],
) -> list[Verdict]:
    """A verdict for each contrast that has two pairs of runs, in the order given.

    p values of contrasts stated before the first run are corrected (Holm) for each other; of one
    stated later for all, since whoever states it has seen the others.

    Args:
        asked: the contrasts.
        values: by arm and seed, metrics in percent; runs that failed are missing.
        seeds: of the study.
    """
    pairs = [_differences(each, values) for each in asked]
    kept = [(each, found) for each, found in zip(asked, pairs, strict=True) if len(found) > 1]
    tests = [paired_test(found, each.margin) for each, found in kept]
    early = [number for number, (each, _) in enumerate(kept) if each.stated_before]
    of_all = holm([test.p for test in tests])
    of_early = dict(zip(early, holm([tests[number].p for number in early]), strict=True))
    return [
        Verdict(
            asked=each,
            test=test,
            bootstrap=bootstrap_interval(found),
            p_holm=of_early.get(number, of_all[number]),
            seeds_missing=len(seeds) - len(found),
        )
        for number, ((each, found), test) in enumerate(zip(kept, tests, strict=True))
    ]


def _differences(
    asked: Asked, values: Mapping[str, Mapping[int, Mapping[str, float]]]
) -> list[float]:
    """Of the seeds that both arms have."""
    of_arm, against = values[asked.arm], values[asked.against]
    both = sorted({*of_arm} & {*against})
    return [of_arm[seed][asked.metric] - against[seed][asked.metric] for seed in both]


def _signed(value: float) -> str:
    """With one digit behind the point, or two where one would be zero; never -0.0."""
    digits = 1 if abs(value) >= 0.05 or value == 0 else 2
    return f"{round(value, digits) + 0.0:+.{digits}f}"

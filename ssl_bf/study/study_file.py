"""The study file: base, arms, seeds, budget, judge, contrasts. Reading it needs no torch."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from linear_eval.strict_config.reader import LoadedConfig, parse_config
from linear_eval.strict_config.source import read_config_file
from linear_eval.strict_config.types import nearest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclass(frozen=True, kw_only=True)
class ArmConfig:
    """One of the things that are compared.

    Attributes:
        name: of its folder, and in contrasts.
        overrides: `key=value` texts that make it out of the base config; none: the base itself.
    """

    name: str
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be a folder."""
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name: {self.name!r}, expected letters, digits and any of _ . + -")


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """What every arm gets the same of.

    Attributes:
        rule: `steps`: as many steps of as many images; `seconds`: as much time, from the seconds of
            a few steps of each arm, which set its epochs.
        seconds: of `seconds`: a run's; null: what the first arm needs for the base's epochs.
    """

    rule: Literal["steps", "seconds"] = "steps"
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Refuse a time that is none, or not asked for."""
        if self.seconds is not None and self.rule == "steps":
            raise ValueError("seconds: means nothing with rule=steps; leave it out")
        if self.seconds is not None and self.seconds <= 0:
            raise ValueError(f"seconds: must be > 0, got {self.seconds}")


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """How the backbone of every run is judged, once, when all are trained.

    Attributes:
        config: an evaluation config: a path, or a packaged name.
        overrides: `key=value` texts for it. Those of data.* that the base gets, it gets as well.
        evaluators: which to run; none named: those of the config.
        metrics: that count, as results.json has them, such as knn/k=20/top1.
    """

    config: str
    overrides: tuple[str, ...] = ()
    evaluators: tuple[str, ...] = ()
    metrics: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse no metric at all, and one twice."""
        if not self.metrics or len({*self.metrics}) < len(self.metrics):
            raise ValueError(f"metrics: expected one or more, each once, got {list(self.metrics)}")


@dataclass(frozen=True, kw_only=True)
class ContrastConfig:
    """A difference that the study is about, fixed before its results are seen.

    Attributes:
        arm: whose metrics,
        against: minus whose.
        margin: in points: a smaller difference does not matter.
        metrics: of those of the judge; none named: all of them.
    """

    arm: str
    against: str
    margin: float
    metrics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a margin that is none."""
        if self.margin <= 0:
            raise ValueError(f"margin: must be > 0, got {self.margin}")


@dataclass(frozen=True, kw_only=True)
class LearningRateConfig:
    """Choose each arm's base learning rate first, on the hold-out, with seeds of its own.

    Attributes:
        factors: times the arm's optimizer.base_learning_rate.
        seeds: none of them among those of the study.
    """

    factors: tuple[float, ...] = (0.5, 1.0, 2.0)
    seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse factors that are none."""
        if len({*self.factors}) < max(2, len(self.factors)) or min(self.factors) <= 0:
            raise ValueError(f"factors: expected two or more, each > 0, got {list(self.factors)}")
        if len({*self.seeds}) < len(self.seeds) or any(seed < 0 for seed in self.seeds):
            raise ValueError(f"seeds: expected different ones >= 0, got {list(self.seeds)}")


@dataclass(frozen=True, kw_only=True)
class SlurmConfig:
    """What a job asks of Slurm, with `--launch slurm`."""

    partition: str | None = None  # null: Slurm's own
    minutes: int = 1440  # of a job; a run that needs more goes on in the next
    cores: int = 4  # of a job
    gpus: int = 0  # likewise

    def __post_init__(self) -> None:
        """Refuse numbers that are none."""
        for name, least in (("minutes", 1), ("cores", 1), ("gpus", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: must be >= {least}, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A study: arms times seeds, and what is asked of them.

    Attributes:
        base: a pretraining config: a path, or a packaged name.
        base_overrides: `key=value` texts for it, of all arms.
        arms: two or more.
        seeds: two or more; one run of every arm each, with the same initial values, views and order
            (and textures: the same images).
        budget: what every arm gets the same of.
        learning_rates: whether each arm's learning rate is chosen first: with seeds for it.
        judge: how runs are judged.
        contrasts: one or more differences between arms.
        collapsed_below: feature_std of the plain stream below which a run counts as collapsed.
        jobs: runs at a time, each with its share of the cores.
        slurm: what a job asks for.
        directory: of everything that is written.
    """

    base: str
    base_overrides: tuple[str, ...] = ()
    arms: tuple[ArmConfig, ...]
    seeds: tuple[int, ...]
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    learning_rates: LearningRateConfig = field(default_factory=LearningRateConfig)
    judge: JudgeConfig
    contrasts: tuple[ContrastConfig, ...]
    collapsed_below: float = 0.2
    jobs: int = 1
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
    directory: str

    def __post_init__(self) -> None:
        """Refuse what could answer nothing: one arm, one seed, a contrast of arms unknown."""
        names = [arm.name for arm in self.arms]
        if len({*names}) < max(2, len(names)):
            raise ValueError(f"arms: expected two or more of different names, got {names}")
        if len({*self.seeds}) < len(self.seeds) or any(seed < 0 for seed in self.seeds):
            raise ValueError(f"seeds: expected different ones >= 0, got {list(self.seeds)}")
        if len(self.seeds) < 2:
            raise ValueError(
                f"seeds: {list(self.seeds)}, expected two or more; a single run has no spread"
            )
        both = {*self.seeds} & {*self.learning_rates.seeds}
        if both:
            raise ValueError(
                f"seeds: {min(both)} is one of learning_rates.seeds, which must be others; a rate "
                "chosen on a run would favour it"
            )
        if self.jobs < 1:
            raise ValueError(f"jobs: must be >= 1, got {self.jobs}")
        if self.collapsed_below < 0:
            raise ValueError(f"collapsed_below: must be >= 0, got {self.collapsed_below}")
        self._check_contrasts(names)

    def _check_contrasts(self, names: list[str]) -> None:
        if not self.contrasts:
            raise ValueError("contrasts: expected one or more, such as {arm: a, against: b, ...}")
        asked: set[tuple[str, str, str]] = set()
        for each in self.contrasts:
            for name in (each.arm, each.against):
                if name not in names:
                    raise ValueError(
                        f"contrasts: there is no arm {name!r}, expected one of {names}."
                        f"{nearest(name, names)}".removesuffix(".")
                    )
            if each.arm == each.against:
                raise ValueError(f"contrasts: {each.arm} against itself; name two arms")
            for metric in each.metrics or self.judge.metrics:
                if metric not in self.judge.metrics:
                    raise ValueError(
                        f"contrasts: {metric} is none of judge.metrics {list(self.judge.metrics)}"
                    )
                if (each.arm, each.against, metric) in asked:
                    raise ValueError(
                        f"contrasts: {each.arm} against {each.against} in {metric} is there twice"
                    )
                asked.add((each.arm, each.against, metric))


KEYS = tuple(each.name for each in dataclasses.fields(StudyConfig))


def load_study(
    source: str, overrides: Sequence[str], *, for_missing: str | None = None
) -> LoadedConfig[StudyConfig]:
    """Read a study file and its overrides.

    A key whose first part is one of `KEYS` is the study's; every other one goes to the base config
    of all arms (`base_overrides`), and what begins with `data.` to the judge's as well.

    Args:
        source: a path, or the name of a packaged study.
        overrides: texts of the form `dotted.key=value`; a later one wins.
        for_missing: stands for required texts that are not given; None: they are errors.

    Raises:
        ConfigError: one line with everything that is wrong.
    """
    own: list[str] = []
    of_base: list[str] = []
    for text in overrides:
        key, equals, _ = text.partition("=")
        is_own = not equals or key.strip().partition(".")[0] in KEYS
        (own if is_own else of_base).append(text)
    loaded = parse_config(StudyConfig, read_config_file(source, "study"), own, for_missing)
    study = loaded.value
    whole = dataclasses.replace(study, base_overrides=(*study.base_overrides, *of_base))
    return LoadedConfig(whole, loaded.notes)

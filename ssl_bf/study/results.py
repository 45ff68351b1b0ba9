"""What a study leaves: study.json, with every run and every contrast."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from linear_eval.system.atomic_file import atomic_file
from linear_eval.system.versions import versions
from ssl_bf.study.record import Record, contrast_key
from ssl_bf.study.run_folder import StudyRun, runs_of
from ssl_bf.study.study_file import StudyConfig
from ssl_bf.study.verdict import Asked, Verdict, answer

STUDY_FILE = "study.json"
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A run with its numbers.

    Attributes:
        run: of the study.
        metrics: on the test images, in percent.
        seconds: of training.
        feature_std: see `StudyRun`.
        collapsed: it is below the study's limit.
        holdout: see `StudyRun`.
    """

    run: StudyRun
    metrics: dict[str, float]
    seconds: float
    feature_std: float | None
    collapsed: bool
    holdout: float | None

    def as_json(self) -> dict[str, Any]:
        """An entry of `runs` in study.json."""
        return {
            "arm": self.run.arm,
            "seed": self.run.seed,
            "metrics": self.metrics,
            "seconds": round(self.seconds, 3),
            "feature_std": self.feature_std,
            "collapsed": self.collapsed,
            "holdout_knn_top1": self.holdout,
            "directory": self.run.directory.relative_to(self.run.study).as_posix(),
        }


@dataclass(frozen=True, kw_only=True)
class StudyResults:
    """All of it.

    Attributes:
        study: that was asked for.
        record: what was stated when, and chosen.
        runs: that are judged.
        failed: names of arm and seed that ended without a backbone, and why.
        verdicts: on the contrasts.
        unanswered: the contrasts that have none, and why.
    """

    study: StudyConfig
    record: Record
    runs: list[Judged]
    failed: list[dict[str, Any]]
    verdicts: list[Verdict]
    unanswered: list[str]

    def of_arm(self, arm: str) -> list[Judged]:
        """Its runs, in the order of the seeds."""
        return [each for each in self.runs if each.run.arm == arm]

    def write(self) -> Path:
        """Write study.json, as a whole file."""
        path = Path(self.study.directory) / STUDY_FILE
        plain = {
            "format": _FORMAT,
            "base": self.study.base,
            "base_overrides": list(self.study.base_overrides),
            "arms": [{"name": a.name, "overrides": list(a.overrides)} for a in self.study.arms],
            "seeds": list(self.study.seeds),
            "metrics": list(self.study.judge.metrics),
            "budget": asdict(self.study.budget),
            "chosen": asdict(self.record.choices),
            "collapsed_below": self.study.collapsed_below,
            "runs": [each.as_json() for each in self.runs],
            "failed": self.failed,
            "contrasts": [each.as_json() for each in self.verdicts],
            "unanswered": self.unanswered,
            "settings": self.record.study,
            "versions": versions(),
        }
        with atomic_file(path) as file:
            file.write(json.dumps(plain, indent=2, allow_nan=False).encode() + b"\n")
        return path


def collect(study: StudyConfig, record: Record, failed: Mapping[StudyRun, str]) -> StudyResults:
    """Read all judged runs and answer the contrasts.

    Args:
        study: the study.
        record: with what was stated.
        failed: runs without a result, and why.
    """
    runs = [
        _judged(run, study)
        for run in runs_of(Path(study.directory), [arm.name for arm in study.arms], study.seeds)
        if run not in failed
    ]
    values: dict[str, dict[int, dict[str, float]]] = {arm.name: {} for arm in study.arms}
    for each in runs:
        values[each.run.arm][each.run.seed] = each.metrics
    asked = asked_contrasts(study, record)
    unmade = {each.metric for each in asked if any(each.metric not in r.metrics for r in runs)}
    verdicts = answer([each for each in asked if each.metric not in unmade], values, study.seeds)
    answered = [each.asked for each in verdicts]
    return StudyResults(
        study=study,
        record=record,
        runs=runs,
        failed=[{"arm": r.arm, "seed": r.seed, "reason": why} for r, why in failed.items()],
        verdicts=verdicts,
        unanswered=[
            f"{each.name} in {each.metric}: no answer, "
            + ("the judge made no such number" if each.metric in unmade else "less than two pairs")
            for each in asked
            if each not in answered
        ],
    )


def asked_contrasts(study: StudyConfig, record: Record) -> list[Asked]:
    """Every contrast in every metric that it names, in the order of the file."""
    return [
        Asked(
            arm=each.arm,
            against=each.against,
            metric=metric,
            margin=each.margin,
            stated_before=record.stated[contrast_key(each.arm, each.against, metric)][
                "before_first_run"
            ],
        )
        for each in study.contrasts
        for metric in each.metrics or study.judge.metrics
    ]


def _judged(run: StudyRun, study: StudyConfig) -> Judged:
    spread = run.feature_std()
    return Judged(
        run=run,
        metrics=run.metrics(),
        seconds=run.seconds(),
        feature_std=spread,
        collapsed=spread is not None and spread < study.collapsed_below,
        holdout=run.holdout(),
    )

"""`study.json` of `ssl-bf ablate`, read and checked."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linear_eval.results.intervals import Interval
from linear_eval.results.seal import is_plain
from linear_eval.system.errors import InputError
from linear_eval.system.user_text import TextError, read_text

STUDY_FILE = "study.json"


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """One run of a study, judged.

    `seconds` and `directory`, which is relative to the study's, are None where it does not say.
    """

    arm: str
    seed: int
    metrics: dict[str, float]
    seconds: float | None
    directory: str | None = None


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A difference between two arms in one metric.

    Attributes:
        name: as the study has it.
        metric: its key.
        difference: in percent.
        interval: 95 %; None where there are too few seeds for one.
        p_holm: corrected over the stated contrasts; None where it was not tested.
        margin: differences within it count as none; None where none was set.
        equivalent: whether the difference is shown to lie within the margin.
        stated_before: whether it was stated before the first run.
        sentence: what it says.
    """

    name: str
    metric: str
    difference: float
    interval: Interval | None
    p_holm: float | None
    margin: float | None
    equivalent: bool | None
    stated_before: bool
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study: `path` of its file, its runs, and its contrasts."""

    path: Path
    runs: tuple[StudyRun, ...]
    contrasts: tuple[Contrast, ...]


def read_study(path: Path) -> Study:
    """Read a study; a folder stands for the study.json in it.

    Raises:
        InputError: there is none, or it is not what `ssl-bf ablate` writes.
    """
    path = path / STUDY_FILE if path.is_dir() else path
    try:
        found = json.loads(read_text(path))
        if not is_plain(found):
            raise ValueError("has control characters in its texts")
        return Study(
            path=path,
            runs=tuple(map(_run, found["runs"])),
            contrasts=tuple(map(_contrast, found["contrasts"])),
        )
    except TextError as error:
        raise InputError(f"{path}: {error}, expected a study of `ssl-bf ablate`") from error
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise _not_a_study(path, str(error)) from error
    except KeyError as error:
        raise _not_a_study(path, f"has no {error}") from error


def _not_a_study(path: Path, problem: str) -> InputError:
    return InputError(
        f"{path}: {problem}, expected a study.json of `ssl-bf ablate`; run the study again"
    )


def _run(found: dict[str, Any]) -> StudyRun:
    seconds, directory = found.get("seconds"), found.get("directory")
    return StudyRun(
        arm=str(found["arm"]),
        seed=int(found["seed"]),
        metrics={
            name: float(value)
            for name, value in (found["metrics"] or {}).items()
            if value is not None and math.isfinite(value)
        },
        seconds=None if seconds is None else float(seconds),
        directory=None if directory is None else str(directory),
    )


def _contrast(found: dict[str, Any]) -> Contrast:
    interval = found["interval"]
    return Contrast(
        name=str(found["name"]),
        metric=str(found["metric"]),
        difference=float(found["difference"]),
        interval=None if interval is None else (float(interval[0]), float(interval[1])),
        p_holm=_optional(found.get("p_holm")),
        margin=_optional(found.get("margin")),
        equivalent=found.get("equivalent"),
        stated_before=bool(found["stated_before"]),
        sentence=str(found["sentence"]),
    )


def _optional(value: Any) -> float | None:
    return None if value is None else float(value)

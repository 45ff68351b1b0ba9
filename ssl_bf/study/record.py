"""What a study folder was begun with: a study that changed is refused, one that grew is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from linear_eval.system.atomic_file import atomic_file
from linear_eval.system.errors import InputError
from linear_eval.system.user_text import TextError, read_text
from ssl_bf.study.run_folder import RUNS, TRIALS
from ssl_bf.study.study_file import StudyConfig

RECORD_FILE = "record.json"
_FORMAT = 1
_MAY_BE_THERE = {RECORD_FILE, ".lock"}


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the study chose for all runs to come, once.

    Attributes:
        precision: of arms that leave it to the study.
        threads: of torch, in every run.
        epochs: by arm, where budget.rule=seconds set them.
        seconds_per_epoch: by arm, as measured for that.
        factors: by arm, of the learning rate, where it was searched for.
    """

    precision: Literal["float32", "bf16"] | None = None
    threads: int | None = None
    epochs: dict[str, int] = field(default_factory=dict)
    seconds_per_epoch: dict[str, float] = field(default_factory=dict)
    factors: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Record:
    """A study as it is on the disk.

    Attributes:
        study: what decides its results, nested.
        seeds: all that it ever had.
        stated: by contrast and metric, the margin and whether it was there before the first run.
        choices: of the study.
    """

    study: dict[str, Any]
    seeds: tuple[int, ...]
    stated: dict[str, dict[str, Any]]
    choices: Choices = field(default_factory=Choices)

    def write(self, folder: Path) -> None:
        """As a whole file."""
        with atomic_file(folder / RECORD_FILE) as file:
            text = json.dumps({"format": _FORMAT, **asdict(self)}, indent=2, allow_nan=False)
            file.write(text.encode() + b"\n")


def contrast_key(arm: str, against: str, metric: str) -> str:
    """As `Record.stated` and messages name it."""
    return f"{arm} - {against} in {metric}"


def read_record(folder: Path) -> Record | None:
    """What is there; None where no study is.

    Raises:
        InputError: the folder holds something else, or a record that cannot be read.
    """
    path = folder / RECORD_FILE
    if not path.is_file():
        if folder.exists() and not folder.is_dir():
            raise InputError(f"directory: {folder} is a file, expected a folder; name another")
        others = {each.name for each in folder.iterdir()} - _MAY_BE_THERE if folder.exists() else {}
        if others:
            raise InputError(
                f"directory: {folder} holds {min(others)} and no study, expected an empty folder "
                "or none; name another"
            )
        return None
    try:
        found = json.loads(read_text(path))
        assert_format = found["format"]
        record = Record(
            study=found["study"],
            seeds=tuple(found["seeds"]),
            stated=found["stated"],
            choices=Choices(**found["choices"]),
        )
    except (TextError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: is damaged ({error}), expected the record of a study; restore it from a "
            "backup, or name another directory"
        ) from error
    if assert_format != _FORMAT:
        raise InputError(f"{path}: is of another version; name another directory")
    return record


def continued(
    found: Record | None,
    study: StudyConfig,
    arms: Mapping[str, dict[str, Any]],
    judge: dict[str, Any],
) -> Record:
    """The record of a study that begins, or goes on as it was, perhaps with more.

    Args:
        found: what the folder says; None: nothing.
        study: as it is asked for now.
        arms: settings by name.
        judge: settings.

    Raises:
        InputError: something else changed than new seeds, arms and contrasts; names the key.
    """
    folder = Path(study.directory)
    if not has_runs(folder):
        found = None  # nothing holds us to what was asked for and never done
    now = json.loads(
        json.dumps(
            {
                "budget": asdict(study.budget),
                "learning_rates": asdict(study.learning_rates),
                "judge": judge,
                "collapsed_below": study.collapsed_below,
                "arms": dict(arms),
            }
        )
    )
    stated = {
        contrast_key(each.arm, each.against, metric): {"margin": each.margin}
        for each in study.contrasts
        for metric in each.metrics or study.judge.metrics
    }
    if found is not None:
        _refuse_changes(found, now, study.seeds, stated, folder)
    known = {} if found is None else found.stated
    is_before = not has_runs(folder)
    for key, each in stated.items():
        each["before_first_run"] = known[key]["before_first_run"] if key in known else is_before
    if found is None:
        return Record(study=now, seeds=study.seeds, stated=stated)
    return replace(found, study=now, seeds=study.seeds, stated=stated)


def has_runs(folder: Path) -> bool:
    """Whether any run was begun, those that try learning rates among them."""
    return any(
        any((folder / place).glob(f"{below}/seed-*/config.yaml"))
        for place, below in ((RUNS, "*"), (TRIALS, "*/*"))
    )


# keys that came after studies could be begun, with what they were until then
_CAME_LATER = {"backbone.frozen_stages": 0}


def _refuse_changes(
    found: Record,
    now: dict[str, Any],
    seeds: tuple[int, ...],
    stated: dict[str, dict[str, Any]],
    folder: Path,
) -> None:
    then, new = dict(_flat(found.study)), dict(_flat(now))
    on_one_side = tuple(f"arms.{name}." for name in {*now["arms"]} ^ {*found.study["arms"]})
    changes = [  # a key that was not there then came with a later version, or another key tells
        f"{key}={_said(then, key)}, now {_said(new, key)}"
        for key in then
        if _said(then, key) != _said(new, key) and not key.startswith(on_one_side)
    ]
    changes += [
        f"{key} not set, now {_said(new, key)}"
        for key in new.keys() - then.keys()
        if not key.startswith(on_one_side)
        for later, value in _CAME_LATER.items()
        if key.endswith(f".{later}") and new[key] != value
    ]
    gone = [f"arm {name}, now missing" for name in found.study["arms"] if name not in now["arms"]]
    gone += [f"seed {seed}, now missing" for seed in found.seeds if seed not in seeds]
    for key, each in found.stated.items():
        if key not in stated:
            gone.append(f"contrast {key}, now missing")
        elif stated[key]["margin"] != each["margin"]:
            gone.append(f"contrast {key} with margin={each['margin']}, now {stated[key]['margin']}")
    if problems := [*changes, *gone]:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(
            f"directory: {folder} holds a study with {problems[0]}{more}; a study that was begun "
            "may get new seeds, arms and contrasts only: put that back, or name another directory"
        )


def _said(settings: dict[str, Any], key: str) -> str:
    return json.dumps(settings[key]) if key in settings else "nothing"


def _flat(nested: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in nested.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found

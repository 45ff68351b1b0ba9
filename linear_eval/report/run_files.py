"""A pretraining run, read from the files in its directory."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from linear_eval.system.errors import InputError
from linear_eval.system.user_text import TextError, read_text

CONFIG, METRICS = "config.yaml", "metrics.jsonl"
BACKBONE = "backbone.safetensors"
_TIMING = "timing"
_LARGEST = 2**63


@dataclass(frozen=True, eq=False, kw_only=True)
class Run:
    """What a run has left so far.

    Attributes:
        path: its directory.
        config: nested, as in config.yaml.
        lines: of metrics.jsonl: `step`, `epoch`, and numbers by name; NaN where it was not finite.
        seconds: of training, as the last line says; None where it does not.
        status: of status.json; empty if there is none.
        environment: of environment.json; likewise.
    """

    path: Path
    config: dict[str, Any]
    lines: tuple[dict[str, float], ...]
    seconds: float | None
    status: dict[str, Any]
    environment: dict[str, Any]

    @property
    def backbone(self) -> Path | None:
        """Its backbone file, once there is one."""
        path = self.path / BACKBONE
        return path if path.is_file() else None


def is_run(folder: Path) -> bool:
    """Whether a folder is the directory of a run."""
    return (folder / CONFIG).is_file() and (folder / METRICS).is_file()


def read_run(folder: Path) -> Run:
    """Read the directory of a run, finished or not.

    Raises:
        InputError: a file of it is damaged.
    """
    lines = _read_metrics(folder / METRICS)
    timing = lines[-1].get(_TIMING) if lines else None
    seconds = timing.get("seconds") if isinstance(timing, dict) else None
    return Run(
        path=folder,
        config=_read_config(folder / CONFIG),
        lines=tuple(_numbers(line) for line in lines),
        seconds=seconds if isinstance(seconds, (int, float)) else None,
        status=_read_object(folder / "status.json"),
        environment=_read_object(folder / "environment.json"),
    )


def run_names(runs: Sequence[Run]) -> list[str]:
    """Names of the directories, with that above where two are alike."""
    names = [run.path.absolute().name for run in runs]
    return [
        name if names.count(name) == 1 else f"{run.path.absolute().parent.name}/{name}"
        for name, run in zip(names, runs, strict=True)
    ]


def _read_config(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(read_text(path))
    except (TextError, yaml.YAMLError) as error:
        raise _damaged(path, "the config of a run", error) from error
    if not isinstance(found, dict):
        raise _damaged(path, "the config of a run", "no mapping")
    if not isinstance(found.get("method") or {}, dict):
        raise _damaged(path, "the config of a run", "method is no mapping")
    return found


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    """All lines; the last may be cut short, by a run that is writing it or was killed."""
    try:
        texts = [text for text in read_text(path).split("\n") if text]
    except TextError as error:
        raise _damaged(path, "lines of metrics", error) from error
    lines = []
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
        except ValueError as error:
            if number == len(texts):
                break
            raise _damaged(path, "lines of metrics", f"line {number}: {error}") from error
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            raise _damaged(path, "lines of metrics", f"line {number}: no 'step'")
        if any(isinstance(value, int) and abs(value) >= _LARGEST for value in line.values()):
            raise _damaged(path, "lines of metrics", f"line {number}: a number beyond 64 bits")
        lines.append(line)
    return lines


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    """All but the timing; a null stands for what was not finite."""
    return {
        name: float(value) if value is not None and math.isfinite(value) else math.nan
        for name, value in line.items()
        if value is None or (isinstance(value, (int, float)) and name != _TIMING)
    }


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(read_text(path))
    except (TextError, ValueError) as error:
        raise _damaged(path, "a JSON object", error) from error
    return found if isinstance(found, dict) else {}


def _damaged(path: Path, expected: str, problem: object) -> InputError:
    return InputError(
        f"{path}: is damaged ({problem}), expected {expected}; copy the run once more"
    )

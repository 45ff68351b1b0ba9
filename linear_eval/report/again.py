"""How to do it again: configs, what differs between runs, versions, commands.

Nothing here names a place of this machine.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from linear_eval.report.run_files import Run
from linear_eval.results.results_file import Results
from linear_eval.strict_config.flattened import flattened
from linear_eval.strict_config.places import LEFT_OUT, without_places

# Keys of runs that say where something lies on the machine.
PLACES = (
    *("data.root", "data.ground_truth", "backbone.init", "speed.store", "speed.like"),
    "run.directory",
)
_ROUNDING_ONLY = ("speed.", "run.", "environment.")
_ABSENT = "-"
_WORDS = {"data.root": "FOLDER", "backbone": "FILE", "run.directory": "DIRECTORY"}


@dataclass(frozen=True)
class Difference:
    """A key in which runs differ.

    Attributes:
        key: dotted.
        values: of each run.
        is_decisive: whether it may change the result.
        is_shared: whether all runs have the key.
    """

    key: str
    values: tuple[str, ...]
    is_decisive: bool
    is_shared: bool


def config_text(config: dict[str, Any]) -> str:
    """A config as YAML, without a place of this machine."""
    plain = without_places(config, PLACES)
    return yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=76)


def config_differences(runs: Sequence[Run]) -> list[Difference]:
    """Keys in which not all runs agree, first those that may change the result."""
    flat = [_settings(run) for run in runs]
    keys = dict.fromkeys(key for each in flat for key in each)
    found = [
        Difference(
            key,
            tuple(_text(each[key]) if key in each else _ABSENT for each in flat),
            not key.startswith(_ROUNDING_ONLY),
            all(key in each for each in flat),
        )
        for key in keys
        if any(each.get(key) != flat[0].get(key) or key not in each for each in flat)
    ]
    return sorted(found, key=lambda each: not each.is_decisive)


def versions_of(runs: Sequence[Run], results: Sequence[Results]) -> dict[str, tuple[str, ...]]:
    """Name -> versions met with; more than one where not all are the same."""
    found: dict[str, dict[str, None]] = {}
    said = [run.environment.get("versions") or {} for run in runs]
    said += [each.whole.get("versions") or {} for each in results]
    for versions in said:
        for name, version in versions.items():
            found.setdefault(name, {})[str(version)] = None
    return {name: tuple(versions) for name, versions in found.items()}


def pretrain_command(run: Run) -> str:
    """`ssl-bf pretrain` of the run's config, saved as config.yaml."""
    return _command("ssl-bf pretrain config.yaml", without_places(run.config, PLACES))


def judge_command(results: Results) -> str | None:
    """`linear-eval run` of the config in the results, saved as judge.yaml; None if it has none."""
    config = results.whole.get("config")
    return _command("linear-eval run judge.yaml", config) if isinstance(config, dict) else None


def _settings(run: Run) -> dict[str, Any]:
    """All but the places, and what it ran on."""
    plain = without_places(run.config, PLACES)
    kept = {key: value for key, value in flattened(plain).items() if key not in PLACES}
    environment = run.environment
    cpu = environment.get("cpu") or {}
    ran_on = {
        "cpu": cpu.get("model"),
        "gpus": environment.get("gpus"),
        **(environment.get("versions") or {}),
    }
    return kept | {
        f"environment.{key}": value for key, value in ran_on.items() if value is not None
    }


def _text(value: Any) -> str:
    return "null" if value is None else str(value)


def _command(start: str, config: dict[str, Any]) -> str:
    overrides = [
        _override(key, value) for key, value in flattened(config).items() if _is_left_out(value)
    ]
    return " ".join([start, *overrides])


def _is_left_out(value: Any) -> bool:
    return value == LEFT_OUT or (isinstance(value, list) and LEFT_OUT in value)


def _override(key: str, value: Any) -> str:
    word = _WORDS.get(key, "FILE")
    if isinstance(value, list):
        return shlex.quote(f"{key}=[{', '.join(_words(value))}]")
    return f"{key}={word}"


def _words(values: Sequence[Any]) -> list[str]:
    return ["FILE" if value == LEFT_OUT else str(value) for value in values]

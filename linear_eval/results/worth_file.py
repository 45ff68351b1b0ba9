"""`worth.json` of `ssl-bf worth`, read and checked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linear_eval.results.intervals import Interval
from linear_eval.results.seal import is_plain
from linear_eval.system.errors import InputError
from linear_eval.system.user_text import TextError, read_text

WORTH_FILE = "worth.json"


@dataclass(frozen=True, kw_only=True)
class WorthContestant:
    """Who was tried.

    Attributes:
        name: for the reader.
        metrics: in percent.
        by_labels: labels per class -> accuracy in percent.
    """

    name: str
    metrics: dict[str, float]
    by_labels: dict[int, float]


@dataclass(frozen=True, kw_only=True)
class Worth:
    """Whether pretraining pays: `verdict` in words, with its `interval`, and the way to go on."""

    path: Path
    verdict: str
    interval: Interval | None
    contestants: tuple[WorthContestant, ...]
    command: str

    @property
    def metric_names(self) -> tuple[str, ...]:
        """All metrics that anybody has."""
        return tuple(dict.fromkeys(key for each in self.contestants for key in each.metrics))


def read_worth(path: Path) -> Worth:
    """Read a worth.json; a folder stands for the one in it.

    Expected are `verdict` (text), `interval` (two numbers or null), `command` (text) and
    `contestants`, a list of `name`, `metrics` and `label_budget` (labels per class -> percent).

    Raises:
        InputError: there is none, or it is not what `ssl-bf worth` writes.
    """
    path = path / WORTH_FILE if path.is_dir() else path
    try:
        found = json.loads(read_text(path))
        if not is_plain(found):
            raise ValueError("has control characters in its texts")
        interval = found.get("interval")
        return Worth(
            path=path,
            verdict=str(found["verdict"]),
            interval=None if interval is None else (float(interval[0]), float(interval[1])),
            contestants=tuple(map(_contestant, found["contestants"])),
            command=str(found.get("command") or ""),
        )
    except TextError as error:
        raise InputError(f"{path}: {error}, expected a verdict of `ssl-bf worth`") from error
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise _not_a_verdict(path, str(error)) from error
    except KeyError as error:
        raise _not_a_verdict(path, f"has no {error}") from error


def _not_a_verdict(path: Path, problem: str) -> InputError:
    return InputError(
        f"{path}: {problem}, expected a worth.json of `ssl-bf worth`; run the command again"
    )


def _contestant(found: dict[str, Any]) -> WorthContestant:
    budgets = found.get("label_budget") or {}
    return WorthContestant(
        name=str(found["name"]),
        metrics={key: float(value) for key, value in (found.get("metrics") or {}).items()},
        by_labels={int(count): float(value) for count, value in budgets.items()},
    )

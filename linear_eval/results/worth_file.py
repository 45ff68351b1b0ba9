"""`worth.json` of `ssl-bf worth`, read and checked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
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
        seconds: of training; None where it was not trained here.
    """

    name: str
    metrics: dict[str, float]
    by_labels: dict[int, float]
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class WorthDifference:
    """The pretrained finalist less its best rival, in points.

    Attributes:
        labels: per class; None: all.
        rival: its name.
        points: of accuracy.
        interval: 95 %.
        clear: whether the interval has one sign.
    """

    labels: int | None
    rival: str
    points: float
    interval: Interval
    clear: bool


@dataclass(frozen=True, kw_only=True)
class Worth:
    """Whether pretraining pays: `verdict` in words, with its `interval`, and the way to go on.

    `differences` are by number of labels, `notes` are sentences below the verdict, and `said` are
    lines about the images and about what was tried, by heading.
    """

    path: Path
    verdict: str
    interval: Interval | None
    contestants: tuple[WorthContestant, ...]
    command: str
    differences: tuple[WorthDifference, ...] = ()
    notes: tuple[str, ...] = ()
    said: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """All metrics that anybody has."""
        return tuple(dict.fromkeys(key for each in self.contestants for key in each.metrics))


def read_worth(path: Path) -> Worth:
    """Read a worth.json; a folder stands for the one in it.

    Expected are `verdict` (text), `interval` (two numbers or null), `command` (text) and
    `contestants`, a list of `name`, `metrics`, `label_budget` (labels per class -> percent) and
    perhaps `seconds`; and perhaps `differences`, `notes` and `said`, as `Worth` has them.

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
            differences=tuple(map(_difference, found.get("differences") or ())),
            notes=tuple(map(str, found.get("notes") or ())),
            said={
                str(heading): tuple(map(str, lines))
                for heading, lines in (found.get("said") or {}).items()
                if lines
            },
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
        seconds=None if found.get("seconds") is None else float(found["seconds"]),
    )


def _difference(found: dict[str, Any]) -> WorthDifference:
    labels = found["labels"]
    return WorthDifference(
        labels=None if labels is None else int(labels),
        rival=str(found["rival"]),
        points=float(found["points"]),
        interval=(float(found["interval"][0]), float(found["interval"][1])),
        clear=bool(found["clear"]),
    )

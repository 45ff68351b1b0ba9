"""The file of figures: a line of JSON per chunk of trials, which add up over calls and commits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Figures:
    """Of one row.

    Attributes:
        next_trial: number of the first trial that was not made.
        count: of things tried.
        bad: what went wrong among them.
        total: how many trials there are; None: without end.
        facts: see `Tried`.
    """

    next_trial: int = 0
    count: int = 0
    bad: list[str] = field(default_factory=list)
    total: int | None = None
    facts: Counter[str] = field(default_factory=Counter)

    def add(self, line: dict[str, Any]) -> None:
        """Take a line in."""
        self.next_trial = max(self.next_trial, line["first"] + line["trials"])
        self.count += line["count"]
        self.bad += [f"trial {each['trial']}: {each['bad']}" for each in line["bad"]]
        self.total = line["of"]
        self.facts.update(line.get("facts", {}))


def read(file: Path) -> dict[str, Figures]:
    """By row; nothing where there is no file."""
    found: dict[str, Figures] = {}
    lines: Iterable[str] = file.read_text().splitlines() if file.exists() else ()
    for line in map(json.loads, lines):
        found.setdefault(line["row"], Figures()).add(line)
    return found


def append(file: Path, line: dict[str, Any]) -> None:
    """Add what a chunk gave."""
    with file.open("a") as lines:
        lines.write(json.dumps(line) + "\n")

"""A row of the table: trials with numbers from 0 on, each of which follows from its number."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Tried:
    """What came of a trial.

    Attributes:
        bad: what went wrong, a line each, with what reproduces it beside the number of the trial.
        count: how many things were tried in it.
        facts: numbers to add up over the trials, such as kills while a checkpoint was written.
    """

    bad: tuple[str, ...] = ()
    count: int = 1
    facts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Trials:
    """A row that is ready to be tried.

    Attributes:
        trial: what a number stands for; runs in a fork, with its outputs in a file.
        total: how many different ones there are; None: without end.
    """

    trial: Callable[[int], Tried]
    total: int | None = None


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        name: on the command line.
        says: in the table.
        prepare: makes what all trials need, in an empty folder that it may fill.
        must: how many are needed; None: every one there is.
        aim: how many are wanted.
        chunk: trials in one fork, and one line of the figures.
        seconds: that a trial may take before it counts as hanging.
    """

    name: str
    says: str
    prepare: Callable[[Path], Trials]
    must: int | None
    aim: int | None = None
    chunk: int = 1
    seconds: int = 120


def chance_of(row: str, number: int) -> random.Random:
    """What a trial draws from."""
    return random.Random(f"{row} {number}")

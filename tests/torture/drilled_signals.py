"""Signals: each in each phase, once and twice, and then at any instant of a run."""

from __future__ import annotations

import shutil
import time
from itertools import product
from pathlib import Path

from tests import signal_drills
from tests.signal_drills import RAISED, REMEMBERED, SIGNALS
from tests.torture.row import Row, Trials, Tried, chance_of

_DRILLS = tuple(product((*RAISED, *REMEMBERED), SIGNALS, (False, True)))


def _prepare(folder: Path) -> Trials:
    (folder / "whole").mkdir()
    signal_drills.whole_run(folder / "whole")
    (folder / "again").mkdir()
    started = time.monotonic()
    whole = signal_drills.whole_run(folder / "again")
    seconds = time.monotonic() - started

    def trial(number: int) -> Tried:
        place = folder / str(number)
        place.mkdir()
        if number >= len(_DRILLS):
            chance = chance_of("signals", number)
            signal_drills.drill_at_any_instant(chance, seconds, place, whole)
        else:
            phase, name, twice = _DRILLS[number * 5 % len(_DRILLS)]
            if phase in RAISED:
                signal_drills.drill_outside_of_training(phase, name, twice, place, whole)
            else:
                signal_drills.drill_while_it_trains(phase, name, twice, place, whole)
        shutil.rmtree(place)
        return Tried()

    return Trials(trial)


ROW = Row(
    name="signals",
    says="signals in all phases, then at any instant: not one line, or other bits",
    prepare=_prepare,
    must=100,
    aim=1000,
)

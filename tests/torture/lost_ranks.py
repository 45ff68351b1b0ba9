"""One of two processes of torchrun is killed under automatic restart, or stopped."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests import lost_processes
from tests.torture.row import Row, Trials, Tried, chance_of

_MAX_SECONDS = 120  # torchrun itself waits 30 of them for a process that is stopped


def _prepare_killed(folder: Path) -> Trials:
    (folder / "whole").mkdir()
    whole = lost_processes.whole_run(folder / "whole")

    def trial(number: int) -> Tried:
        place, step = folder / str(number), chance_of("killed", number).randrange(6, 30)
        place.mkdir()
        lost_processes.kill_and_restart(number % 2, step, place, whole)
        shutil.rmtree(place)
        return Tried()

    return Trials(trial)


def _prepare_stopped(folder: Path) -> Trials:
    def trial(number: int) -> Tried:
        place, step = folder / str(number), chance_of("stopped", number).randrange(6, 30)
        place.mkdir()
        seconds = lost_processes.stop(number % 2, step, place)
        shutil.rmtree(place)
        late = (f"took {seconds:.0f} s",) if seconds > _MAX_SECONDS else ()
        return Tried(late, facts={"seconds in all": round(seconds)})

    return Trials(trial)


KILLED = Row(
    name="killed",
    says="a rank killed under automatic restart: not finished, or other bits",
    prepare=_prepare_killed,
    must=10,
    aim=50,
    seconds=900,
)
STOPPED = Row(
    name="stopped",
    says="a rank stopped: not named, or not ended in 120 s",
    prepare=_prepare_stopped,
    must=10,
    aim=50,
    seconds=900,
)

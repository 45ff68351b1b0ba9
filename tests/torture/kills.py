"""SIGKILL at random instants, and going on: the end is that of the run that nothing killed."""

from __future__ import annotations

import shutil
from pathlib import Path

from ssl_bf.commands.verify_resume import FIXED
from ssl_bf.verify.lives import Kills, Lives
from ssl_bf.verify.same_runs import differences
from tests.torture.every_run import combined, command_of, keep_commit, overrides
from tests.torture.row import Row, Trials, Tried, chance_of

_KILLS = 5  # of one run
_STEP = 29  # through the combinations, so that a few trials meet every method and relation


def _prepare(folder: Path) -> Trials:
    pairs = combined()
    keep_commit()

    def trial(number: int) -> Tried:
        method, relation = pairs[number * _STEP % len(pairs)]
        words = [*overrides(method, relation), *FIXED, "run.save_every=1steps"]
        place, kills, chance = folder / str(number), Kills(), chance_of("kills", number)
        place.mkdir()
        with Lives(command_of(words), place / "printed") as lives:
            seconds = lives.whole(place / "whole")
            while kills.total < _KILLS and lives.killed(place / "killed", seconds, chance, kills):
                pass
            lives.whole(place / "killed")
        found = differences(place / "killed", place / "whole")
        shutil.rmtree(place)
        bad = (f"{method}, {relation}: {len(found)} differ, {found[:3]}",) if found else ()
        return Tried(bad, kills.total, {"in a write": kills.in_a_write, f"runs of {method}": 1})

    return Trials(trial)


ROW = Row(
    name="kills",
    says="SIGKILL and resume, every method x relation: not the same bits",
    prepare=_prepare,
    must=300,
    aim=2000,
    seconds=600,
)

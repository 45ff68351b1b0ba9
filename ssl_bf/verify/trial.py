"""Kills a run many times, and compares each that gets to its end with one never killed."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from linear_eval.system.errors import RunFailed
from linear_eval.system.printable import aligned
from ssl_bf.verify.lives import Kills, Lives
from ssl_bf.verify.same_runs import differences

_NUM_NAMED = 5  # differences in the message


def try_kills(command: Callable[[Path], None], kills: int, seed: int) -> None:
    """Print a table of what came out.

    Args:
        command: trains in a directory, or goes on there.
        kills: how many, >= 1.
        seed: of their instants.

    Raises:
        RunFailed: anything differs (what differs is kept), or a run ends by itself, and not well.
    """
    folder = Path(tempfile.mkdtemp(prefix="ssl-bf-verify-resume-"))
    keeps = False
    try:
        with Lives(command, folder / "printed") as lives:
            rows = _rows(lives, folder, kills, random.Random(seed))
    except _Differ as error:
        keeps = True
        raise RunFailed(f"{error}; both runs are kept in {folder}") from error
    finally:
        if not keeps:
            shutil.rmtree(folder, ignore_errors=True)
    for line in aligned(("never killed against killed and resumed", ""), rows):
        print(line)


class _Differ(RunFailed):
    """The runs do."""


def _rows(lives: Lives, folder: Path, kills: int, chance: random.Random) -> list[tuple[str, str]]:
    """What was counted, as rows of a table."""
    whole, counted, runs = folder / "whole", Kills(), 0
    seconds = lives.whole(whole)
    while counted.total < kills:
        killed = folder / f"killed_{runs}"
        while counted.total < kills and lives.killed(killed, seconds, chance, counted):
            pass
        lives.whole(killed)  # to its end, if it is not there
        runs += 1
        if found := differences(killed, whole):
            named = ", ".join(found[:_NUM_NAMED])
            raise _Differ(
                f"after {counted.total} kills, run {runs} is not the one never killed: "
                f"{len(found)} differences ({named})"
            )
        shutil.rmtree(killed)
    return [
        ("kills", str(counted.total)),
        ("... while a checkpoint was written", str(counted.in_a_write)),
        ("runs of these that got to their end", str(runs)),
        ("runs that differ", "0"),
        ("kills that change a run, at most (3/n, 95 %)", f"{min(1, 3 / counted.total):.2%}"),
        ("seconds of the run never killed", f"{seconds:.1f}"),
    ]

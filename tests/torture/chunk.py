"""Trials in a fork of this process: whatever kills or hangs it is a figure too."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from tests.torture.row import Row, Trials, Tried

_LONGEST = 400  # characters of what went wrong
_HERE = f"{Path(__file__).parents[2]}/"  # figures name no place of this machine


def tried(row: Row, trials: Trials, first: int, folder: Path) -> dict[str, Any]:
    """Make a chunk of trials from number `first` on; a line for the figures, without the commit."""
    last = first + row.chunk if trials.total is None else min(first + row.chunk, trials.total)
    number, results = first, list[tuple[int, Tried]]()
    while number < last:
        found, code = _in_fork(trials, range(number, last), row.seconds, folder)
        results += found
        number = results[-1][0] + 1 if found else number
        if number < last:
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            results.append((number, Tried((f"the process ended by {how}",))))
            number += 1
    facts: dict[str, int] = {}
    for _, each in results:
        for name, value in each.facts.items():
            facts[name] = facts.get(name, 0) + value
    return {
        "row": row.name,
        "first": first,
        "trials": len(results),
        "count": sum(each.count for _, each in results),
        "of": trials.total,
        "bad": [
            {"trial": n, "bad": bad.replace(_HERE, "")[:_LONGEST]}
            for n, each in results
            for bad in each.bad
        ],
        **({"facts": facts} if facts else {}),
    }


def _in_fork(
    trials: Trials, numbers: range, seconds: int, folder: Path
) -> tuple[list[tuple[int, Tried]], int]:
    """What came of the trials before the fork ended, and minus the signal that ended it."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(read)
            said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(said, stream)
            # whatever stands for the streams here, such as a test's, is the parent's
            # (closefd: who puts another in its place would close the descriptor)
            sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            with os.fdopen(write, "w") as results:
                for number in numbers:
                    signal.alarm(seconds)
                    one = _tried(trials, number)
                    results.write(json.dumps([number, one.bad, one.count, one.facts]) + "\n")
                    results.flush()
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as lines:
        found = [json.loads(line) for line in lines if line.endswith("\n")]
    _, status = os.waitpid(child, 0)
    return (
        [(number, Tried(tuple(bad), count, facts)) for number, bad, count, facts in found],
        os.waitstatus_to_exitcode(status),
    )


def _tried(trials: Trials, number: int) -> Tried:
    try:
        return trials.trial(number)
    except BaseException as error:  # whatever it is, it is a figure
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        return Tried((f"{type(error).__name__} at {place}: {str(error)[:300]}",))

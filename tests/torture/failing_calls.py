"""Every file-system call of a run that starts and of one that goes on, with each fault."""

from __future__ import annotations

import os
import shutil
from itertools import product
from pathlib import Path

from tests.disk_faults import FAULTS, SCENARIOS, counted_calls, try_fault
from tests.torture.row import Row, Trials, Tried

_STEP = 101  # a prime: a part of the trials is spread over all calls and faults


def _prepare(folder: Path) -> Trials:
    calls: list[tuple[str, int, str]] = []
    for scenario in SCENARIOS:
        (folder / scenario).mkdir()
        found = counted_calls(scenario, folder / scenario)
        calls += [(scenario, at, event) for at, event in enumerate(found, 1)]
    trials = list(product(calls, FAULTS))

    def trial(number: int) -> Tried:
        (scenario, at, event), fault = trials[number * _STEP % len(trials)]
        place = folder / scenario
        try_fault(scenario, fault, at, event, place)
        os.chdir(folder)
        shutil.rmtree(place / f"{fault}_{at}")
        return Tried(facts={fault: 1})

    return Trials(trial, total=len(trials))


ROW = Row(
    name="calls",
    says="a file-system call fails (EIO, ENOSPC, EROFS) or is the last: not one line, no way on",
    prepare=_prepare,
    must=None,
)

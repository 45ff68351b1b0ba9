"""Every file-system call of a run may fail, or be the last: see `tests/disk_faults.py`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.disk_faults import FAULTS, KILL, SCENARIOS, counted_calls, try_fault

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

FEW = {("start", "EIO"): 53, ("resume", KILL): 41}  # one in so many calls


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    before = Path.cwd()
    yield tmp_path
    os.chdir(before)


def scenarios() -> list[Any]:
    return [
        pytest.param(scenario, fault, every, marks=pytest.mark.slow if every == 1 else ())
        for scenario in SCENARIOS
        for fault in FAULTS
        for every in {1, FEW.get((scenario, fault), 1)}
    ]


@pytest.mark.parametrize(("scenario", "fault", "every"), scenarios())
def test_whatever_call_fails_it_is_one_line_and_the_same_command_goes_on(
    scenario: str, fault: str, every: int, place: Path
) -> None:
    calls = counted_calls(scenario, place)
    assert {"open", "os.mkdir", "os.rename", "os.remove", "os.scandir", "fsync"} <= {*calls}
    for at in range(1, len(calls) + 1, every):
        try_fault(scenario, fault, at, calls[at - 1], place)

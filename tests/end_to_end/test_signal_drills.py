"""Every signal in every phase: see `tests/signal_drills.py`."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests import signal_drills
from tests.signal_drills import RAISED, REMEMBERED, SIGNALS

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

FEW = {
    *(("packing", "SIGTERM", False), ("resuming", "SIGUSR1", False)),
    *(("training", "SIGHUP", False), ("saving", "SIGTERM", True)),
}


def drills(phases: dict[str, Any]) -> list[Any]:
    every = product(phases, SIGNALS, (False, True))
    return [pytest.param(*each, marks=() if each in FEW else pytest.mark.slow) for each in every]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What nothing interrupts."""
    return signal_drills.whole_run(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(("phase", "name", "twice"), drills(RAISED))
def test_a_signal_before_and_after_training_is_one_line_and_the_same_line_goes_on(
    phase: str, name: str, twice: bool, tmp_path: Path, whole: Path
) -> None:
    signal_drills.drill_outside_of_training(phase, name, twice, tmp_path, whole)


@pytest.mark.parametrize(("phase", "name", "twice"), drills(REMEMBERED))
def test_a_signal_while_it_trains_saves_and_the_second_one_ends_at_once(
    phase: str, name: str, twice: bool, tmp_path: Path, whole: Path
) -> None:
    signal_drills.drill_while_it_trains(phase, name, twice, tmp_path, whole)

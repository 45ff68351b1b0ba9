"""Two processes of torchrun, one of which (or torchrun) is killed or stopped."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ssl_bf.run.checkpoint import load_newest
from tests import lost_processes
from tests.lost_processes import PATIENCE, assert_same, started

pytestmark = [pytest.mark.dist, pytest.mark.slow]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lost_processes.whole_run(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_is_named_and_a_restart_ends_with_the_same_bits(
    rank: int, tmp_path: Path, whole: Path
) -> None:
    lost_processes.kill_and_restart(rank, 12, tmp_path, whole)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stopped_process_is_named_and_the_others_end(rank: int, tmp_path: Path) -> None:
    lost_processes.stop(rank, 12, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGKILL, signal.SIGTERM])
def test_when_torchrun_ends_its_processes_save_and_end(
    number: int, tmp_path: Path, whole: Path
) -> None:
    with started(tmp_path) as run:
        run.wait_for_step(12)
        os.kill(run.agent.pid, number)
        run.wait_for_the_end_of_all()
        assert "stopped at step" in run.errors.read_text()
        assert load_newest(tmp_path / "run").step >= 12
    with started(tmp_path) as run:
        assert run.agent.wait(PATIENCE) == 0, run.errors.read_text()
    assert_same(tmp_path / "run", whole)

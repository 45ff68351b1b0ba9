"""A command that ends with whoever started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.any_command import SAVES

ROOT = Path(__file__).parents[3]
WATCHED = [sys.executable, "-m", "ssl_bf.study.watched", sys.executable, "-c"]


def start(program: str, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*WATCHED, program, str(folder)], stdin=subprocess.PIPE, cwd=ROOT)


def wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


def test_its_exit_code_is_that_of_the_command(tmp_path: Path) -> None:
    assert start("import sys; sys.exit(7)", tmp_path).wait(60) == 7
    assert start("import os; os.kill(os.getpid(), 9)", tmp_path).wait(60) == 137


def test_the_command_saves_when_input_ends_and_slurms_warning_does_not_end_it(
    tmp_path: Path,
) -> None:
    watched = start(SAVES, tmp_path)
    wait_for(tmp_path / "begun")
    watched.send_signal(signal.SIGUSR2)
    time.sleep(0.2)
    assert watched.poll() is None
    assert watched.stdin is not None
    watched.stdin.close()
    assert watched.wait(60) == 75
    assert (tmp_path / "saved").exists()


def test_the_command_saves_when_its_starter_is_killed(tmp_path: Path) -> None:
    starter = f"""
import pathlib, time
from ssl_bf.study.processes import Processes
from tests.any_command import SAVES, any_command
Processes(threads=1).start(any_command(pathlib.Path({str(tmp_path)!r}), SAVES), 0)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", starter], cwd=ROOT, start_new_session=True)
    folder = tmp_path / "runs" / "any" / "seed-0"
    wait_for(folder / "begun")
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    wait_for(folder / "saved")

"""Tests of linear_eval.system.interruption, in processes of their own."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
HEARD = (
    "from linear_eval.system.interruption import *\nimport os, signal, sys\n"
    "for each in ASKING: signal.signal(each, signal.SIG_DFL)  # whatever ignores them here\n"
    "hear()\n"
)


def run(program: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", HEARD + program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def test_the_first_signal_is_raised_and_the_second_ends_with_a_line() -> None:
    program = "\n".join(
        f"if os.fork() == 0:\n"
        f"    try: os.kill(os.getpid(), signal.{name})\n"
        f"    except Interrupted as error: print(name_of(error), file=sys.stderr)\n"
        f"    os.kill(os.getpid(), signal.SIGHUP)\n"
        f"    os._exit(0)\n"
        f"print(os.waitstatus_to_exitcode(os.wait()[1]), file=sys.stderr)"
        for name in NAMES
    )
    lines = run(program)[1].splitlines()
    by = ["", " by SIGTERM", " by SIGHUP", " by SIGUSR1"]
    for number, name in enumerate(by):
        assert lines[3 * number : 3 * number + 3] == [
            f"interrupted{name}",
            "SIGHUP: a second signal, ended at once",
            str(128 + signal.SIGHUP),
        ]


def test_what_is_ignored_stays_ignored() -> None:
    program = (
        "signal.signal(signal.SIGHUP, signal.SIG_IGN); hear()\n"
        "os.kill(os.getpid(), signal.SIGHUP); be_deaf()\n"
        "os.kill(os.getpid(), signal.SIGHUP); print('goes on', file=sys.stderr)"
    )
    assert run(program) == (0, "goes on\n")


@pytest.mark.parametrize("rank", ["0", "1"])
def test_one_of_torchruns_processes_speaks(rank: str) -> None:
    program = f"os.environ.update(WORLD_SIZE='2', RANK='{rank}')\n"
    program += "with ending_at_once('kept'): os.kill(os.getpid(), signal.SIGTERM)"
    said = "interrupted by SIGTERM: kept\n" if rank == "0" else ""
    assert run(program) == (128 + signal.SIGTERM, said)

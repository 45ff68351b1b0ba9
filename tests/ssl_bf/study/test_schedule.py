"""Tasks one beside the other: order, failures, what stops all."""

import os
import signal
import threading
from pathlib import Path

import pytest

from linear_eval.system.errors import InputError, StoppedBySignal
from ssl_bf.study.processes import Process, Processes
from ssl_bf.study.schedule import do_all, last_error
from ssl_bf.study.tasks import Task
from tests.any_command import SAVES, any_command

HERE = Processes(threads=1)


class Counting:
    """Starts tasks here, and counts how many there are at a time."""

    def __init__(self) -> None:
        self.at_work: list[Process] = []
        self.most = 0
        self.slots: list[int] = []

    def start(self, task: Task, slot: int) -> Process:
        self.slots.append(slot)
        self.at_work = [each for each in self.at_work if each.poll() is None]
        self.at_work.append(HERE.start(task, slot))
        self.most = max(self.most, len(self.at_work))
        return self.at_work[-1]


def test_so_many_at_a_time_and_none_that_is_done(tmp_path: Path) -> None:
    tasks = [any_command(tmp_path, seed=seed) for seed in range(5)]
    tasks[3].run.directory.mkdir(parents=True)
    (tasks[3].run.directory / "done").touch()
    launcher = Counting()
    assert do_all(tasks, launcher, jobs=2) == []
    assert all(task.is_done() for task in tasks)
    assert (launcher.most, len(launcher.slots), {*launcher.slots}) == (2, 4, {0, 1})


def test_one_that_fails_is_returned_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = any_command(tmp_path, "print('error: no memory'); sys.exit(1)", seed=0)
    good = any_command(tmp_path, seed=1)
    assert do_all([bad, good], HERE, jobs=1) == [bad]
    assert good.is_done()
    said = f"train any seed 0: failed (exit code 1): no memory; see {bad.run.log}"
    assert said in capsys.readouterr().err


def test_wrong_input_stops_all_and_those_at_work_save(tmp_path: Path) -> None:
    other = any_command(tmp_path, SAVES, seed=1)
    begun = other.run.directory / "begun"
    wrong = (
        "import time\nwhile not pathlib.Path(sys.argv[1], '..', 'seed-1', 'begun').exists():"
        " time.sleep(0.05)\nprint('error: data.root: no such folder'); sys.exit(2)"
    )
    with pytest.raises(InputError, match="^train any seed 0: data.root: no such folder$"):
        do_all([any_command(tmp_path, wrong, seed=0), other], HERE, jobs=2)
    assert begun.exists()
    assert (other.run.directory / "saved").exists()


def test_a_signal_stops_all_after_they_saved_and_they_go_on(tmp_path: Path) -> None:
    tasks = [any_command(tmp_path, SAVES, seed=seed) for seed in range(2)]

    def interrupt() -> None:
        while not all((task.run.directory / "begun").exists() for task in tasks):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(StoppedBySignal):
        do_all(tasks, HERE, jobs=2)
    assert all((task.run.directory / "saved").exists() for task in tasks)
    assert do_all(tasks, HERE, jobs=2) == []


def test_the_last_error_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_error(log) == ""
    log.write_text("error: old\nstep 3\nerror: new\nstopped\n")
    assert last_error(log) == "new"

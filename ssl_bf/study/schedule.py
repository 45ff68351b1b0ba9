"""So many tasks at a time, until all are done, one is hopeless, or a signal asks to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from linear_eval.system.errors import EXIT_STOPPED, EXIT_WRONG_INPUT, InputError, StoppedBySignal
from linear_eval.system.screen import say
from ssl_bf.run.signals import StopSignals
from ssl_bf.study.arms import Arm
from ssl_bf.study.study_file import StudyConfig
from ssl_bf.study.tasks import Task

_EVERY = 0.1  # seconds between two looks


class Started(Protocol):
    """A task at work."""

    def poll(self) -> int | None:
        """Its exit code; None while it works."""

    def stop(self) -> None:
        """Ask it to save and stop; may be asked again."""


class Launcher(Protocol):
    """What starts tasks, here or elsewhere."""

    def start(self, task: Task, slot: int) -> Started:
        """Start one; `slot` is which of those at a time it is, from 0."""


class Place(Protocol):
    """Where runs work."""

    def check(self, study: StudyConfig, arms: Sequence[Arm]) -> None:
        """Refuse what cannot work there."""

    def threads(self, study: StudyConfig) -> int:
        """Of each run, >= 1."""

    def launcher(self, study: StudyConfig, threads: int) -> Launcher:
        """What starts runs there."""


def do_all(
    tasks: Iterable[Task],
    launcher: Launcher,
    *,
    jobs: int,
    progress: Callable[[], str] = str,
) -> list[Task]:
    """Do the tasks that are not done, in their order.

    Args:
        tasks: of one kind.
        launcher: starts them.
        jobs: at a time.
        progress: what to say behind the name of each that ends.

    Returns:
        Those that failed: they ended, and are not done. The others went on meanwhile.

    Raises:
        InputError: a task says that its input is wrong; the others would say so as well.
        StoppedBySignal: this process was asked to stop. Whatever the reason, those at work are
            asked to save and stop, and waited for.
    """
    waiting = [task for task in tasks if not task.is_done()]
    failed: list[Task] = []
    at_work: dict[int, tuple[Task, Started]] = {}
    with StopSignals() as signals:
        try:
            while waiting or at_work:
                if signals.received is not None:
                    raise StoppedBySignal
                _fill(at_work, waiting, launcher, jobs)
                time.sleep(_EVERY)
                for task, code in _ended(at_work):
                    if _is_done(task, code):
                        say(f"{task.name}: done{progress()}")
                    else:
                        failed.append(task)
        finally:
            for _, started in at_work.values():
                started.stop()
            while any(started.poll() is None for _, started in at_work.values()):
                time.sleep(_EVERY)
    return failed


def _fill(
    at_work: dict[int, tuple[Task, Started]], waiting: list[Task], launcher: Launcher, jobs: int
) -> None:
    """Start tasks while there are free slots."""
    for slot in range(jobs):
        if waiting and slot not in at_work:
            task = waiting.pop(0)
            say(f"{task.name}: {'goes on' if task.goes_on else 'starts'}")
            at_work[slot] = task, launcher.start(task, slot)


def _ended(at_work: dict[int, tuple[Task, Started]]) -> list[tuple[Task, int]]:
    """Take out what ended, with its exit code."""
    ended = []
    for slot, (task, started) in list(at_work.items()):
        code = started.poll()
        if code is not None:
            del at_work[slot]
            ended.append((task, code))
    return ended


def _is_done(task: Task, code: int) -> bool:
    """Whether a task that ended is done; says what went wrong where it is not.

    Raises:
        InputError: what it was given is wrong.
        StoppedBySignal: somebody else asked it to stop.
    """
    if task.is_done():
        return True
    if code == EXIT_STOPPED:
        raise StoppedBySignal
    last = last_error(task.run.log)
    if code == EXIT_WRONG_INPUT:
        raise InputError(f"{task.name}: {last or f'see {task.run.log}'}")
    say(f"{task.name}: failed (exit code {code}): {last or 'no error line'}; see {task.run.log}")
    return False


def last_error(log: Path) -> str:
    """The last line of a log that says what is wrong; "" where none does."""
    if not log.is_file():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    return errors[-1].removeprefix("error: ") if errors else ""

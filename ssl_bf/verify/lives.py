"""A run in forks of this process, killed again and again until it is done.

Loading torch takes seconds, a fork none: so a kill costs what the run itself computes.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from linear_eval.system.errors import (
    EXIT_DONE,
    EXIT_WRONG_INPUT,
    InputError,
    RunFailed,
    run_command,
)

_POLL_SECONDS = 0.0005
WRITES_SHARE = 3  # of so many kills, one at least comes while a checkpoint is written


@dataclass
class Kills:
    """How many there were, and of which kind.

    Attributes:
        at_random: at any instant of the run, from its fork on.
        in_a_write: while the files of a checkpoint were being written.
    """

    at_random: int = 0
    in_a_write: int = 0

    @property
    def total(self) -> int:
        """Of both kinds."""
        return self.at_random + self.in_a_write


class Lives:
    """Starts one command again and again, in forks; what they print goes to a file."""

    def __init__(self, command: Callable[[Path], None], printed: Path) -> None:
        """Remember what to do.

        Args:
            command: trains in a directory, or goes on there.
            printed: file for what it prints.
        """
        self._command = command
        self._printed = printed
        self._child = 0  # that runs now

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nobody behind."""
        if self._child:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)

    def whole(self, directory: Path) -> float:
        """Let it end by itself; seconds that took.

        Raises:
            RunFailed: it does not end well.
        """
        started = time.monotonic()
        self._begin(directory)
        self._check(self._wait())
        return time.monotonic() - started

    def killed(self, directory: Path, seconds: float, chance: random.Random, kills: Kills) -> bool:
        """Kill it once, at some instant; False where it was done before.

        Args:
            directory: of the run.
            seconds: that a life may take; the instant is drawn from them.
            chance: draws it.
            kills: is counted up.

        Raises:
            RunFailed: it ended by itself, and not well.
        """
        before = _half_written(directory)
        self._begin(directory)
        # A write is short, and may be over when it is seen: more are sought until enough were met.
        seeks_a_write = kills.in_a_write * WRITES_SHARE <= kills.total
        end = time.monotonic() + (seconds if seeks_a_write else chance.uniform(0, seconds))
        code = None
        while code is None and time.monotonic() < end:
            if seeks_a_write and _half_written(directory) - before:
                break
            time.sleep(_POLL_SECONDS)
            code = self._ended()
        if code is None:
            os.kill(self._child, signal.SIGKILL)
            code = self._wait()
        if code != -signal.SIGKILL:
            self._check(code)
            return False
        if _half_written(directory) - before:  # what it left shows what it did
            kills.in_a_write += 1
        else:
            kills.at_random += 1
        return True

    def _begin(self, directory: Path) -> None:
        self._child = begin_fork(lambda: self._command(directory), self._printed)

    def _wait(self) -> int:
        while (code := self._ended()) is None:
            time.sleep(_POLL_SECONDS)
        return code

    def _ended(self) -> int | None:
        """Exit code of the fork, minus the signal that killed it; None as long as it runs."""
        code = code_of(self._child)
        self._child = self._child if code is None else 0
        return code

    def _check(self, code: int) -> None:
        if code != EXIT_DONE:
            raise ended_badly(code, self._printed)


def begin_fork(act: Callable[[], None], printed: Path) -> int:
    """Number of a new process that acts as a command does; what it prints goes to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        descriptor = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        # whatever stands for the streams here, such as a test's, is the parent's
        sys.stdout, sys.stderr = (os.fdopen(number, "w") for number in (1, 2))
        code = run_command(act, if_interrupted="")
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)  # what the parent has to clear up is the parent's


def code_of(child: int) -> int | None:
    """Exit code of a fork, minus the signal that killed it; None as long as it runs."""
    number, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if number else None


def ended_badly(code: int, printed: Path) -> InputError | RunFailed:
    """What says how a fork ended, and what it said last; wrong input is said as its own."""
    said = "".join(printed.read_text(errors="replace").strip().splitlines()[-1:])
    if code == EXIT_WRONG_INPUT:
        return InputError(said.removeprefix("error: "))
    return RunFailed(f"the run ended by itself with exit code {code}: {said}")


def _half_written(directory: Path) -> set[tuple[str, int]]:
    """The checkpoints that are being written, or were when their process was killed."""
    try:
        with os.scandir(directory / "checkpoints") as entries:
            return {(each.name, each.inode()) for each in entries if each.name.startswith(".tmp-")}
    except OSError:
        return set()  # nothing is there yet

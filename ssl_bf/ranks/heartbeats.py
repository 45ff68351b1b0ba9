"""Processes of one run tell each other that they live; one that falls silent is named.

A collective operation alone would wait for it, minutes and without a word.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NoReturn, Self

from linear_eval.system.distributed import barrier, connection, rank, world_size
from linear_eval.system.errors import EXIT_LOST, ProcessLost
from linear_eval.system.interruption import write_now

TICK_SECONDS = 1.0
_ANSWER_SECONDS = 5.0  # of the store
_CERTAIN_TICKS = 5  # of silence, after an operation has failed, from another machine
_LEFT = "left"  # said by a process that ends well


@dataclass
class _Other:
    """What is known of another process."""

    said: str = ""
    silent_ticks: int = 0

    @property
    def has_left(self) -> bool:
        return self.said == _LEFT

    def fate(self) -> str:
        """`gone`, `stopped` or `silent`; the first two are certain, as it is on this machine."""
        _, _, address = self.said.partition(" ")
        host, _, number = address.rpartition(":")
        if host != socket.gethostname() or not number.isdigit():
            return "silent"
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return "gone"
        return {"Z": "gone", "X": "gone", "T": "stopped"}.get(state, "silent")


class Heartbeats:
    """Says every second that this process lives, and hears the others.

    Counts its own ticks, no clock: where all processes sleep and wake up together, nobody is lost.
    A process that is silent for `timeout` seconds is lost; so is torchrun, which keeps the store,
    when that does not answer for as long. Then a line says so, and this process ends at once with
    exit code 69: whatever it waits for will not come.

    Attributes:
        left: says what there is, behind the line; must not wait for anything.
    """

    def __init__(self, timeout: float) -> None:
        """Begin; all processes call this together.

        Args:
            timeout: seconds.
        """
        self.left: Callable[[], str] = lambda: ""
        self._timeout = timeout
        self._tick = min(TICK_SECONDS, timeout / 4)
        self._parent = os.getppid()
        self._others = {each: _Other() for each in range(world_size()) if each != rank()}
        self._store = connection(timedelta(seconds=min(_ANSWER_SECONDS, timeout)))
        self._ended = threading.Event()
        self._beat(0)
        barrier()  # now the words of all are there
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._ended.set()
        self._thread.join(2 * _ANSWER_SECONDS)
        if error is None:
            self._tell(_LEFT)

    def line_of_the_lost(self) -> str | None:
        """After an operation has failed: which process is certainly gone; None if none is."""
        for _ in range(2 * _CERTAIN_TICKS):
            for number, other in self._others.items():
                if other.fate() == "gone" or other.silent_ticks >= _CERTAIN_TICKS:
                    return self._line(number)
            time.sleep(self._tick)
        return None

    def _run(self) -> None:
        count, unanswered = 0, 0
        while not self._ended.wait(self._tick):
            count += 1
            unanswered = 0 if self._beat(count) and self._hear() else unanswered + 1
            for number, other in self._others.items():
                if other.silent_ticks * self._tick > self._timeout and not other.has_left:
                    self._end(self._line(number), speaks=self._speaks(number))
            self._meet_the_end_of_the_store(unanswered)

    def _meet_the_end_of_the_store(self, unanswered: int) -> None:
        """Ask to stop and save, if nobody did, and end where that takes too long."""
        seconds = unanswered * self._tick
        half = self._timeout / 2
        if half <= seconds < half + self._tick and os.getppid() == self._parent:
            os.kill(os.getpid(), signal.SIGTERM)  # a parent that ends has sent it already
        if seconds > self._timeout:
            line = f"torchrun has not answered for {seconds:.0f} s, ended{self.left()}"
            self._end(line, speaks=rank() == 0)

    def _beat(self, count: int) -> bool:
        return self._tell(f"{count} {socket.gethostname()}:{os.getpid()}")

    def _tell(self, word: str) -> bool:
        try:
            self._store.set(f"heartbeat_{rank()}", word)
        except RuntimeError:
            return False
        return True

    def _hear(self) -> bool:
        """Whether the store answers."""
        try:
            said = self._store.multi_get([f"heartbeat_{each}" for each in self._others])
        except RuntimeError:
            return False
        for other, word in zip(self._others.values(), said, strict=True):
            is_new = word.decode() != other.said
            other.silent_ticks = 0 if is_new else other.silent_ticks + 1
            other.said = word.decode()
        return True

    def _line(self, number: int) -> str:
        other = self._others[number]
        fate = other.fate()
        seconds = other.silent_ticks * self._tick
        words = {"gone": "is gone", "stopped": f"is stopped, silent for {seconds:.0f} s"}
        address = other.said.partition(" ")[2] or "unknown"
        is_what = words.get(fate, f"has not answered for {seconds:.0f} s")
        return f"process {number} of this run ({address}) {is_what}, ended{self.left()}"

    def _speaks(self, lost: int) -> bool:
        """Of those that are left, the first speaks."""
        return rank() == min(each for each in range(world_size()) if each != lost)

    def _end(self, line: str, *, speaks: bool) -> NoReturn:
        if speaks:
            write_now(f"error: {line}")
        else:
            time.sleep(1)  # or torchrun would end the one that speaks before it has
        os._exit(EXIT_LOST)


@contextmanager
def naming_the_lost(heartbeats: Heartbeats | None, left: Callable[[], str]) -> Iterator[None]:
    """Inside, where an operation fails because another process is gone, say which.

    Args:
        heartbeats: of the processes; None: there is one.
        left: see `Heartbeats`.

    Raises:
        ProcessLost: in place of torch's error.
    """
    if heartbeats is not None:
        heartbeats.left = left
    try:
        yield
    except RuntimeError as error:
        line = None if heartbeats is None else heartbeats.line_of_the_lost()
        if line is None:
            raise
        raise ProcessLost(line) from error

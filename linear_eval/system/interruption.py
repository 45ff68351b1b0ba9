"""Signals that ask a command to stop: the first is raised where it works, the second ends it.

Imports stay light: this is the first thing that a command does.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# Ctrl-C; schedulers, torchrun and `kill`; a terminal that is closed; schedulers' early warning.
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)

# torchrun hands on to its processes what a terminal or a scheduler has sent to them as well, and
# its own end tells them once more: within so many seconds that is the same signal.
SAME_SECONDS = 3.0


class Interrupted(KeyboardInterrupt):
    """A signal asked the command to stop.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        """Say which it was."""
        super().__init__(number)
        self.number = number


def hear() -> None:
    """From now on raise `Interrupted` in the main thread at the first signal, and end at the next.

    What is ignored (`nohup`, a job in the background) stays ignored.
    """
    for number in heard():
        signal.signal(number, _raise)


def be_deaf() -> None:
    """Have the signals end the process again, as it is clearing up."""
    for number in heard():
        signal.signal(number, signal.SIG_DFL)


def heard() -> list[int]:
    """The signals of `ASKING` that are not ignored."""
    return [number for number in ASKING if signal.getsignal(number) is not signal.SIG_IGN]


def name_of(interruption: KeyboardInterrupt) -> str:
    """What to say of it: `interrupted` after Ctrl-C, else with the signal's name."""
    number = number_of(interruption)
    return (
        f"interrupted by {signal.Signals(number).name}"
        if number != signal.SIGINT
        else "interrupted"
    )


def number_of(interruption: KeyboardInterrupt) -> int:
    """Number of the signal; Python's own means Ctrl-C."""
    return interruption.number if isinstance(interruption, Interrupted) else signal.SIGINT


def speaks() -> bool:
    """Whether this is the one of torchrun's processes that tells what all of them do."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK") == "0"


def end_at_once(number: int, line: str) -> None:
    """Tell the line and end the process with 128 + `number`, whatever it is doing.

    Buffered lines of `print` would not be heard, nor may a handler wait for their lock.
    """
    tell(line)
    os._exit(128 + number)


def tell(line: str) -> None:
    """Print a line from within a handler; of torchrun's processes, one speaks."""
    if speaks():
        write_now(line)


def write_now(line: str) -> None:
    """Print a line past all buffers, whose locks may be held."""
    try:
        screen = sys.stderr.fileno()
    except (OSError, AttributeError):
        screen = 2
    with suppress(OSError):
        os.write(screen, f"{line}\n".encode())


@contextmanager
def ending_at_once(line: str) -> Iterator[None]:
    """Let any signal end the process where torch is loaded: its C++ aborts on an exception."""

    def end(number: int, *_: object) -> None:
        end_at_once(number, f"{name_of(Interrupted(number))}: {line}")

    own = (_raise, signal.default_int_handler)
    before = {each: signal.getsignal(each) for each in ASKING if signal.getsignal(each) in own}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_the_same(since: float) -> bool:
    """Whether a signal is but the one of `since` (of `time.monotonic`) once more."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and time.monotonic() - since < SAME_SECONDS


def _raise(number: int, _: object) -> None:
    since = time.monotonic()

    def end(another: int, _: object) -> None:
        if not is_the_same(since):
            name = signal.Signals(another).name
            end_at_once(another, f"{name}: a second signal, ended at once")

    for each in heard():
        signal.signal(each, end)
    raise Interrupted(number)

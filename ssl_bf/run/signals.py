"""Signals that ask a run to stop: remembered, agreed on by all processes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple, Self

import torch
from torch import distributed

from linear_eval.system.distributed import is_main, world_size
from linear_eval.system.interruption import end_at_once, heard, is_the_same, tell


class Asked(NamedTuple):
    """What a run is to do after a step."""

    stop: bool
    save: bool


class StopSignals:
    """Handles SIGTERM, SIGINT, SIGHUP and SIGUSR1 while its `with` block runs.

    The first signal is only remembered, so that the step under way can end and be saved; a second
    one ends the process at once with exit code 128 + its number. Each is told in a line. The
    handlers of before come back at the end of the block. All processes of a distributed run enter
    the block together, in their main thread.

    Attributes:
        received: number of the signal that reached this process, or None.
    """

    def __init__(self, left: Callable[[], str] = lambda: "") -> None:
        """Hear nothing yet.

        Args:
            left: what there is if the process ends at once; must not wait for anything.
        """
        self.received: int | None = None
        self._received_at = 0.0
        self._left = left
        self._previous: dict[int, Any] = {}
        self._group: Any = None  # the default group

    def __enter__(self) -> Self:
        # A group on the CPU: asking at every step must not wait for the GPU.
        if world_size() > 1 and distributed.get_backend() != "gloo":
            self._group = distributed.new_group(backend="gloo")
        self._previous = {number: signal.signal(number, self._remember) for number in heard()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agreed(self, *, save_is_due: bool) -> Asked:
        """What all processes do after this step: all ask, and all get the same answer.

        Args:
            save_is_due: to the main process, whose clock counts.
        """
        stop = self.received is not None
        if world_size() == 1:
            return Asked(stop, save_is_due)
        flags = torch.tensor([stop, save_is_due and is_main()], dtype=torch.int32)
        distributed.all_reduce(flags, op=distributed.ReduceOp.MAX, group=self._group)
        return Asked(*map(bool, flags.tolist()))

    def _remember(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.received is None:
            self.received, self._received_at = number, time.monotonic()
            tell(f"{name}: the step under way ends and is saved; a second signal ends it at once")
        elif not is_the_same(self._received_at):
            end_at_once(number, f"{name}: a second signal, ended at once{self._left()}")

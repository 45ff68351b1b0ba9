"""Signals that ask a run to stop: remembered, agreed on by all processes."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any, Self

import torch
from torch import distributed

from linear_eval.system.distributed import world_size

# SIGTERM from schedulers and torchrun, SIGINT from Ctrl-C, SIGUSR1 as schedulers' early warning.
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopSignals:
    """Handles SIGTERM, SIGINT and SIGUSR1 while its `with` block runs.

    The first signal is only remembered, so that the step under way can end and be saved; a second
    one ends the process at once with exit code 128 + its number. The handlers of before come back
    at the end of the block. All processes of a distributed run enter the block together, in their
    main thread.

    Attributes:
        received: number of the signal that reached this process, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}
        self._group: Any = None  # the default group

    def __enter__(self) -> Self:
        # A group on the CPU: asking at every step must not wait for the GPU.
        if world_size() > 1 and distributed.get_backend() != "gloo":
            self._group = distributed.new_group(backend="gloo")
        self._previous = {number: signal.signal(number, self._remember) for number in HANDLED}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def should_stop(self) -> bool:
        """Whether any process got a signal; all processes get the same answer, and all must ask."""
        if world_size() == 1:
            return self.received is not None
        flag = torch.tensor(int(self.received is not None))
        distributed.all_reduce(flag, op=distributed.ReduceOp.MAX, group=self._group)
        return bool(flag.item())

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = number

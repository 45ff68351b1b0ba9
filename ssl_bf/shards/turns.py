"""The shards that one process holds, computed in turns: each until it wants rows of the others.

A shard is a thread, because a step may wait for the others deep inside a backward. One thread runs
at a time, so that nothing depends on which is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Semaphore
from typing import Generic, TypeVar

import torch
from torch import Tensor

from linear_eval.system.distributed import all_gather_rows, rank, world_size
from ssl_bf.shards.shard import Shard, computing

T = TypeVar("T")


@dataclass(frozen=True)
class HeldShards:
    """What this process holds: shards `first`, `first + 1`, ... of `count`, as many as the others.

    Attributes:
        count: shards of a batch; the number of processes divides it.
    """

    count: int

    @property
    def held(self) -> int:
        """How many."""
        return self.count // world_size()

    @property
    def numbers(self) -> range:
        """Which."""
        return range(rank() * self.held, (rank() + 1) * self.held)

    def first(self) -> Shard:
        """The first of them, for what is asked before there are steps."""
        return Shard(self.numbers[0], self.count, _nobody_listens)

    def each(self, work: Callable[[int], T]) -> list[T]:
        """Call `work` for each, with its place among those held; every process calls it at once.

        The calls may gather. Each finds torch's generator as it left it itself.
        """
        if self.held == 1:
            only = Shard(self.numbers[0], self.count, lambda x: _gathered([x]))
            with computing(only), torch.autograd.set_multithreading_enabled(False):
                return [work(0)]
        with ThreadPoolExecutor(self.held, "shard") as threads:
            turns: list[_Turn[T]] = [_Turn(number, self.count) for number in self.numbers]
            try:
                for place, turn in enumerate(turns):
                    turn.begin(threads, partial(work, place))
                _let_all_compute(turns)
            finally:
                for turn in turns:
                    turn.give_up()
            return [turn.outcome() for turn in turns]


def _let_all_compute(turns: Sequence[_Turn[T]]) -> None:
    answer: Tensor | None = None
    while True:
        for turn in turns:
            turn.go_on(answer)
        asking = [turn for turn in turns if not turn.is_done]
        if not asking:
            return
        assert len(asking) == len(turns), "some shards gather, and some have ended"
        answer = _gathered([turn.asked for turn in turns])


def _gathered(parts: list[Tensor]) -> Tensor:
    """(...) of each shard held to (T, ...) of all shards of all processes."""
    return all_gather_rows(torch.stack(parts))


def _nobody_listens(x: Tensor) -> Tensor:
    raise AssertionError(f"{tuple(x.shape)} gathered outside of a step")


class _GivenUp(BaseException):
    """Ends a thread whose step nobody wants any more."""


class _Turn(Generic[T]):
    """A thread that computes one shard while everybody else waits for it."""

    asked: Tensor  # what it wants to be gathered

    def __init__(self, number: int, count: int) -> None:
        self.is_done = False
        self._shard = Shard(number, count, self._gather)
        self._device = torch.cuda.current_device() if torch.cuda.is_initialized() else None
        self._answer: Tensor | None = None
        self._is_given_up = False
        self._begins, self._ends = Semaphore(0), Semaphore(0)

    def begin(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> None:
        """Have a thread, which waits to go on."""
        self._future = threads.submit(self._run, work)

    def go_on(self, answer: Tensor | None) -> None:
        """Let it compute until it asks again or is done; raises what it raised."""
        self._answer = answer
        self._begins.release()
        self._ends.acquire()
        if self.is_done:
            self.outcome()

    def outcome(self) -> T:
        """What the work returned; raises what it raised."""
        return self._future.result()

    def give_up(self) -> None:
        """End it where it waits; where it computes, at its next question."""
        self._is_given_up = True
        self._begins.release()

    def _run(self, work: Callable[[], T]) -> T:
        try:
            self._wait()
            if self._device is not None:
                torch.cuda.set_device(self._device)
            # The backward of a GPU has a thread of its own, which all would wait in.
            with computing(self._shard), torch.autograd.set_multithreading_enabled(False):
                return work()
        finally:
            self.is_done = True
            self._ends.release()

    def _gather(self, x: Tensor) -> Tensor:
        on_gpu = self._device is not None
        states = torch.get_rng_state(), torch.cuda.get_rng_state() if on_gpu else None
        self.asked = x
        self._ends.release()
        self._wait()
        torch.set_rng_state(states[0])
        if states[1] is not None:
            torch.cuda.set_rng_state(states[1])
        assert self._answer is not None
        return self._answer

    def _wait(self) -> None:
        self._begins.acquire()
        if self._is_given_up:
            raise _GivenUp

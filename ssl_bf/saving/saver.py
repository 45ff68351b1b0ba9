"""Saves a run while it goes on: the tensors are copied at once, and written by a thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from linear_eval.strict_config.intervals import Interval, read_interval
from linear_eval.system.printable import one_line
from linear_eval.system.screen import say
from ssl_bf.config import RunConfig
from ssl_bf.run import checkpoint
from ssl_bf.schedules import Plan


class Saver:
    """Knows when a checkpoint is due, and writes one at a time; of the main process.

    Nothing that is written can change the run: the copy is made before the next step, and the
    thread computes nothing. Leaving the `with` block waits for what is being written.
    """

    def __init__(
        self,
        directory: Path,
        config: RunConfig,
        plan: Plan,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to count now.

        Args:
            directory: of the run.
            config: says how often, and what stays.
            plan: how long an epoch and the run are.
            clock: seconds.
        """
        self._directory = directory
        self._keep_last = config.keep_last
        self._every = read_interval(config.save_every, plan.steps_per_epoch)
        self._stay = Interval()
        if config.keep_every is not None:
            self._stay = read_interval(config.keep_every, plan.steps_per_epoch)
        self._last_step = plan.total_steps
        self._clock = clock
        self._saved_at = clock()
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._writer.shutdown()  # waits
        failure = self._writing.exception() if self._writing is not None else None
        if failure is not None and error is None:
            raise failure
        if failure is not None and failure is not error:
            say(one_line(f"error: {failure}"))

    def is_due(self, done: int) -> bool:
        """Whether a checkpoint is to be saved after so many finished updates.

        Raises:
            InputError: the one before could not be written.
        """
        if self._writing is not None and self._writing.done():
            self._writing.result()
        if self._every.seconds and self._clock() - self._saved_at >= self._every.seconds:
            return True
        at_step = self._every.steps and done % self._every.steps == 0
        return bool(at_step) or self._stays(done) or done == self._last_step

    def save(self, done: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Copy the tensors and begin to write them, once what was being written is there.

        Args:
            done: finished updates.
            tensors: of the run, on any device; may change once this returns.
            state: JSON values, not to be changed.

        Raises:
            InputError: the checkpoint before could not be written.
        """
        self.wait()
        self._saved_at = self._clock()
        copies = checkpoint.copied(tensors)
        self._writing = self._writer.submit(self._write, done, copies, state)

    def wait(self) -> None:
        """Wait until the checkpoint that is being written is there.

        Raises:
            InputError: it could not be written.
        """
        if self._writing is not None:
            self._writing.result()

    def _write(self, done: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        checkpoint.save(
            self._directory,
            step=done,
            tensors=tensors,
            state=state,
            keep=self._keep_last,
            stays=self._stays,
        )

    def _stays(self, step: int) -> bool:
        """Whether the checkpoint of a step is never deleted."""
        return self._stay.steps > 0 and step % self._stay.steps == 0

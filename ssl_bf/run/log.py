"""What a run writes for its user: metrics, status, environment; trackers are told the same."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from linear_eval.system.atomic_file import atomic_file
from linear_eval.system.distributed import all_gather_rows, is_main
from linear_eval.system.errors import InputError, RunFailed, StoppedBySignal
from ssl_bf.health.memory import memory_in_use
from ssl_bf.health.rules import Finding
from ssl_bf.run.environment import changed_keys, describe_environment
from ssl_bf.run.progress import Progress
from ssl_bf.run.status import State, write_json, write_status
from ssl_bf.schedules import Plan
from ssl_bf.trackers.choice import TrackerChoice
from ssl_bf.trackers.tracker import Tracker

METRICS, HEALTH = "metrics.jsonl", "health.jsonl"


class NonFiniteLoss(RunFailed):
    """The loss became NaN or infinite; the message is one line that names the step."""

    def __init__(self, step: int, loss: float, run_directory: Path) -> None:
        super().__init__(step, loss)
        self.step, self._loss, self._directory = step, loss, run_directory

    def __str__(self) -> str:
        """Asked when all is written: a checkpoint may be under way when the loss is met."""
        saved = any(self._directory.glob("checkpoints/step-*"))
        return (
            f"loss: is {self._loss} at step {self.step}, expected a finite number; lower "
            "optimizer.base_learning_rate, raise optimizer.warmup_epochs or set precision=float32 "
            f"({'checkpoints saved before are untouched' if saved else 'no checkpoint was saved'})"
        )


class RunLog:
    """Log of one run; a context manager that leaves the right state in status.json.

    Only the main process writes and prints; the others still check their losses. Steps count
    finished updates, so the first is 1. A line of metrics.jsonl holds step, epoch, the values
    given, and `timing`; all but `timing` is reproducible, and null stands for a value that is not
    finite.
    """

    def __init__(
        self,
        run_directory: Path,
        *,
        plan: Plan,
        batch_size: int,
        resume_step: int | None = None,
        trackers: TrackerChoice | None = None,
        precision: str | None = None,
    ) -> None:
        """Prepare a new log, or with `resume_step` go on with the one that is there.

        Args:
            run_directory: must exist.
            plan: length of the run.
            batch_size: global, for images per second.
            resume_step: step of the checkpoint; lines of later steps are dropped.
            trackers: that are told the numbers as well; None: nobody.
            precision: of the steps, for environment.json.
        """
        self._directory = run_directory
        self._plan = plan
        self._batch_size = batch_size
        self._step = self._last_step = resume_step or 0
        self._started = self._last_time = time.monotonic()
        self._watched: list[tuple[int, Tensor]] = []
        self._progress = Progress(plan, first_step=self._step)
        self._resume_step = resume_step
        self._choice = trackers or TrackerChoice()
        self._precision = precision
        self._trackers: list[Tracker] = []
        self._is_open = False
        if resume_step is not None:
            self.open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._progress.close()
        for tracker in self._trackers:
            tracker.close()
        if error is None:
            self._write_status("finished")
        elif isinstance(error, StoppedBySignal):
            self._write_status("stopped", reason=str(error))
        else:
            self._write_status("failed", reason=f"{type(error).__name__}: {error}")

    def open(self) -> None:
        """Begin to write; a new log writes nothing before this call."""
        self._is_open = True
        if not is_main():
            return
        if self._resume_step is None:
            (self._directory / METRICS).write_bytes(b"")
        else:
            for name in (METRICS, HEALTH):
                _drop_lines_after(self._directory / name, self._resume_step)
        self._write_environment(is_resumed=self._resume_step is not None)
        self._trackers, notes = self._choice.open(self._directory, self._resume_step)
        for line in notes:
            self.note(line)
        self._write_status("running")

    @property
    def is_open(self) -> bool:
        """Whether the run has begun to write."""
        return self._is_open

    def note(self, line: str) -> None:
        """Print one line."""
        self._progress.note(line)

    def watch(self, step: int, loss: Tensor) -> None:
        """Remember the loss of a finished step, without waiting for the device."""
        self._step = step
        self._watched.append((step, loss.detach()))
        self._progress.advance(step, loss)

    def check_losses(self) -> None:
        """Look at the losses watched since the last time; call it before a checkpoint is saved.

        All processes call it at once, and find the same: what is looked at is their mean. Where
        nothing was watched since, one may call it alone.

        Raises:
            NonFiniteLoss: naming the first step whose loss is NaN or infinite.
        """
        if not self._watched:
            return
        own = torch.stack([loss for _, loss in self._watched])
        losses = all_gather_rows(own[None]).mean(dim=0).tolist()
        steps = [step for step, _ in self._watched]
        self._watched.clear()
        for step, loss in zip(steps, losses, strict=True):
            if not math.isfinite(loss):
                raise NonFiniteLoss(step, loss, self._directory)

    def write(self, step: int, values: Mapping[str, float | Tensor]) -> None:
        """Write one line of metrics, and show it on the screen.

        Args:
            step: finished updates.
            values: scalars; `loss` and `learning_rate` are shown, or all if there is no loss.

        Raises:
            NonFiniteLoss: as `check_losses`.
            InputError: the line cannot be written.
        """
        self.check_losses()
        if not is_main():
            return
        numbers = {name: _number(value) for name, value in values.items()}
        now = time.monotonic()
        done = step - self._last_step
        seconds_per_step = max(now - self._last_time, 1e-9) / max(done, 1)
        speed = self._batch_size / seconds_per_step
        self._step, self._last_step, self._last_time = step, step, now
        epoch = round(step / self._plan.steps_per_epoch, 4)
        timing = {"seconds": round(now - self._started, 3), **memory_in_use()}
        if done:  # a second line of the same step took no training
            timing["images_per_second"] = round(speed, 1)
        self._append(METRICS, {"step": step, "epoch": epoch, **numbers, "timing": timing})
        finite = {name: number for name, number in numbers.items() if number is not None}
        for tracker in self._trackers:
            tracker.add(step, epoch, finite)
        self._progress.show(
            step, numbers, images_per_second=speed, seconds_per_step=seconds_per_step
        )
        self._write_status("running")

    def found(self, finding: Finding) -> None:
        """Print what a rule of health found, and write a line of health.jsonl."""
        if not is_main():
            return
        self.note(f"warning: {finding.says}")
        self._append(HEALTH, asdict(finding))

    def _append(self, name: str, record: dict[str, Any]) -> None:
        try:
            with (self._directory / name).open("ab") as file:
                file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
        except OSError as error:
            raise InputError(
                f"{self._directory / name}: cannot be written ({error.strerror or error}); free "
                "some space or mend the disk, then give the same command with run.resume=auto"
            ) from error

    def _write_status(self, state: State, *, reason: str | None = None) -> None:
        if is_main() and self._is_open:
            total = self._plan.total_steps
            write_status(self._directory, state, step=self._step, total_steps=total, reason=reason)

    def _write_environment(self, *, is_resumed: bool) -> None:
        path = self._directory / "environment.json"
        now = {**describe_environment(), "precision": self._precision}
        if is_resumed and path.exists():
            changes = changed_keys(json.loads(path.read_bytes()), now)
            if changes:
                self.note(f"warning: results may differ in the last bits; {'; '.join(changes)}")
        write_json(path, now)


def _number(value: float | Tensor) -> float | None:
    number = value.item() if isinstance(value, Tensor) else value
    return number if math.isfinite(number) else None


def _drop_lines_after(path: Path, step: int) -> None:
    """Keep the lines up to `step`; a line cut short by a killed process goes too."""
    if not path.exists():
        return
    lines = path.read_bytes().splitlines()
    with atomic_file(path) as file:
        file.writelines(line + b"\n" for line in lines if _is_up_to(step, line))


def _is_up_to(step: int, line: bytes) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and record.get("step", math.inf) <= step

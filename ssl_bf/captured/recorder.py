"""Finds the step that went wrong, and writes it.

A loss is read when a line is logged, so a failure is met up to `run.log_every` steps late. The
state of the last line is kept in memory, and the steps since then are made again, one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from linear_eval.system.distributed import (
    all_gather_rows,
    broadcast_from_main,
    is_main,
    rows_for_main,
    world_size,
)
from ssl_bf.build import Run
from ssl_bf.captured.run_health import UnhealthyRun
from ssl_bf.captured.step_file import StepFacts, StepFile, changes, digest, write
from ssl_bf.config import config_to_share
from ssl_bf.health.rules import Finding
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.classes import Classes
from ssl_bf.run.log import NonFiniteLoss, RunLog
from ssl_bf.run.training_state import training_tensors

MakeStep = Callable[[int, Batch], Tensor]  # from the number of a step and its batch to the loss


class Recorder:
    """Captures steps of one run, but none of a CUDA graph.

    A context manager around the steps, which writes the step of a failure that ends them. All
    processes call it at once; the main one writes.
    """

    def __init__(self, run: Run, directory: Path, log: RunLog, make_step: MakeStep) -> None:
        """Nothing is kept before the first `remember`."""
        self._run, self._directory, self._make_step = run, directory, make_step
        self._log = log
        settings = run.config
        self._keeps = settings.run.capture_failures and not settings.speed.cuda_graph
        self._wanted = settings.run.capture_step
        self._reason = "run.capture_step asks for it"
        self._before: dict[str, Tensor] | None = None
        self._kept: tuple[int, dict[str, Tensor]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, UnhealthyRun):
            path = self._next(error.step, str(error))
        elif isinstance(error, NonFiniteLoss) and self._log.is_open:
            path = self.find(error.step)
        else:
            return
        if path is not None:
            self._log.note(f"the step is kept: ssl-bf replay {path}")

    def remember(self, done: int) -> None:
        """Keep the state after `done` steps in place of an earlier one."""
        if self._keeps:
            self._kept = done, self._state()

    def want_after(self, done: int, found: Sequence[Finding]) -> None:
        """Capture the step after `done` steps, where the main process found something."""
        if not self._keeps:
            return
        says = torch.tensor(len(found), device=self._run.device)
        if int(broadcast_from_main(says)):
            self._wanted = done + 1
            self._reason = found[0].says if found else "the main process found something"

    def before(self, number: int) -> None:
        """Keep the state before step `number`, counted from 1, where it is wanted."""
        self._before = self._state() if number == self._wanted else None

    def after(self, step: int, batch: Batch, loss: Tensor) -> None:
        """Write step `step`, counted from 0, where it was wanted; its directory is ready now."""
        if self._before is not None:
            self._write(step, batch, self._before, loss, self._reason)
            self._before = None

    def _next(self, done: int, reason: str) -> Path | None:
        """Make the step after `done` steps and write it, where there is one: the run is over."""
        if not self._keeps or done >= self._run.plan.total_steps:
            return None
        batch, before = self._run.loader.batch(done), self._state()
        loss = self._make_step(done, batch)
        return self._write(done, batch, before, loss, reason)

    def find(self, failed: int) -> Path | None:
        """Make the steps up to number `failed` again; write the first that leaves numbers broken.

        Returns:
            The file; None where nothing was kept, or nothing breaks this time.
        """
        if self._kept is None:
            return None
        start, state = self._kept
        self._restore(state)
        for step in range(start, failed):
            batch, before = self._run.loader.batch(step), self._state()
            loss = self._make_step(step, batch)
            after = training_tensors(self._run.method, self._run.optimizer).values()
            is_sound = all(bool(value.isfinite().all()) for value in (loss, *after))
            said = torch.tensor([is_sound], device=self._run.device)
            if not bool(all_gather_rows(said).all()):
                why = "numbers that are not finite"
                return self._write(step, batch, before, loss, why)
        return None

    def _state(self) -> dict[str, Tensor]:
        tensors = training_tensors(self._run.method, self._run.optimizer)
        return {name: value.detach().clone() for name, value in tensors.items()}

    def _restore(self, state: dict[str, Tensor]) -> None:
        optimizer = self._run.optimizer
        if not any(name.startswith("optimizer/") for name in state):
            optimizer.state.clear()  # before the first step it keeps nothing
        with torch.no_grad():
            for name, value in training_tensors(self._run.method, optimizer).items():
                value.copy_(state[name])
        if self._run.sharded is not None:
            self._run.sharded.forget_copies()

    def _write(
        self, step: int, batch: Batch, before: dict[str, Tensor], loss: Tensor, reason: str
    ) -> Path:
        run = self._run
        path = self._directory / "captured" / f"step-{step + 1:09d}.safetensors"
        if run.sharded is None:
            loss = all_gather_rows(loss.detach()[None]).mean()
        whole = batch.map(rows_for_main)
        if not is_main():
            return path
        after = training_tensors(run.method, run.optimizer)
        facts = StepFacts(
            config=config_to_share(run.config),
            step=step,
            steps_per_epoch=run.plan.steps_per_epoch,
            shards=run.num_shards,
            processes=world_size(),
            class_counts=list(Classes.of(run.images.class_names, run.images.labels).counts),
            reason=reason,
            precision=run.choices.precision,
            threads=torch.get_num_threads(),
            device=run.device.type,
            torch=torch.__version__,
            loss=float(loss.detach()).hex(),
            outcome=digest(after),
            changes=changes(before, after),
        )
        write(path, StepFile(facts, before, whole))
        return path

"""Finds the step that went wrong, and writes it.

A loss is read when a line is logged, so a failure is met up to `run.log_every` steps late. The
state of the last line is kept in memory, and the steps since then are made again, one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from linear_eval.system.distributed import world_size
from ssl_bf.build import Run
from ssl_bf.captured.step_file import StepFacts, StepFile, digest, write
from ssl_bf.config import config_to_share
from ssl_bf.methods.batch import Batch
from ssl_bf.run.training_state import training_tensors

MakeStep = Callable[[int, Batch], Tensor]  # from the number of a step and its batch to the loss


class Recorder:
    """Captures steps of one run; of several processes or CUDA graphs, none."""

    def __init__(self, run: Run, directory: Path, make_step: MakeStep) -> None:
        """Nothing is kept before the first `remember`."""
        self._run, self._directory, self._make_step = run, directory, make_step
        settings = run.config
        self._is_able = world_size() == 1 and not settings.speed.cuda_graph
        self._keeps = self._is_able and settings.run.capture_failures
        self._wanted = settings.run.capture_step if self._is_able else None
        self._reason = "run.capture_step asks for it"
        self._pending: StepFile | None = None
        self._kept: tuple[int, dict[str, Tensor]] | None = None

    def remember(self, done: int) -> None:
        """Keep the state after `done` steps in place of an earlier one."""
        if self._keeps:
            self._kept = done, self._state()

    def want(self, step: int, reason: str) -> None:
        """Capture step number `step`, counted from 1, when it comes."""
        if self._keeps:
            self._wanted, self._reason = step, reason

    def step(self, step: int, batch: Batch) -> Tensor:
        """Make a step, counted from 0, and write it where it is wanted."""
        if step + 1 != self._wanted:
            return self._make_step(step, batch)
        before = self._state()
        loss = self._make_step(step, batch)
        self._pending = self._captured(step, batch, before, loss, self._reason)
        return loss

    def write_pending(self) -> None:
        """Write what the last step captured; its directory is ready now."""
        if self._pending is not None:
            self._write(self._pending)
            self._pending = None

    def capture_next(self, done: int, reason: str) -> None:
        """Make the step after `done` steps and write it, where there is one; the run ends here."""
        self.want(done + 1, reason)
        if self._keeps and done < self._run.plan.total_steps:
            self.step(done, self._run.loader.batch(done))
            self.write_pending()

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
            if not all(bool(value.isfinite().all()) for value in (loss, *after)):
                why = "numbers that are not finite"
                return self._write(self._captured(step, batch, before, loss, why))
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

    def _write(self, captured: StepFile) -> Path:
        path = self._directory / "captured" / f"step-{captured.facts.step + 1:09d}.safetensors"
        write(path, captured)
        return path

    def _captured(
        self, step: int, batch: Batch, before: dict[str, Tensor], loss: Tensor, reason: str
    ) -> StepFile:
        run = self._run
        facts = StepFacts(
            config=config_to_share(run.config),
            step=step,
            steps_per_epoch=run.plan.steps_per_epoch,
            classes=len(run.images.class_names),
            reason=reason,
            precision=run.choices.precision,
            threads=torch.get_num_threads(),
            device=run.device.type,
            torch=torch.__version__,
            loss=float(loss).hex(),
            outcome=digest(training_tensors(run.method, run.optimizer)),
        )
        return StepFile(facts, before, batch)

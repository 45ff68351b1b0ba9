"""The health of a run as it trains: what is found is told, and ends the run where it shall."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from linear_eval.system.distributed import broadcast_from_main, is_main
from linear_eval.system.errors import RunFailed
from ssl_bf.build import Run
from ssl_bf.health.rules import Finding, Outlook
from ssl_bf.health.watch import HealthWatch
from ssl_bf.run.checkpoint import published_steps
from ssl_bf.run.log import RunLog
from ssl_bf.saving.saver import Saver


class UnhealthyRun(RunFailed):
    """A rule in `run.stop_on` found something; the message is its line and what is left."""

    def __init__(self, finding: Finding, step: int, directory: Path) -> None:
        self.step = step  # the last that was made
        steps = published_steps(directory)
        left = f"the newest checkpoint, of step {steps[0]}, is kept" if steps else "none was saved"
        super().__init__(f"{finding.says} (stopped, as run.stop_on says; {left})")


class RunHealth:
    """Feeds log lines to the rules; the main process judges, all of them stop together."""

    def __init__(self, run: Run, directory: Path, log: RunLog, saver: Saver) -> None:
        """Nothing has been found yet."""
        self._directory, self._log, self._saver = directory, log, saver
        self._device, self._stop_on = run.device, run.config.run.stop_on
        self._run = run
        self._watch: HealthWatch | None = None  # before the first step
        self._looked_at = 0
        self._is_suspect = False

    def look(self, step: int, values: Mapping[str, float | Tensor]) -> list[Finding]:
        """Judge the numbers of a finished step; every process calls it, with its own.

        Returns:
            What was found for the first time.

        Raises:
            UnhealthyRun: a rule in `run.stop_on` found something.
        """
        if step == self._looked_at:
            return []
        self._looked_at = step
        if self._watch is None:
            self._watch = HealthWatch(outlook(self._run), self._stop_on)
        found = self._watch.look(step, {name: float(v) for name, v in values.items()})
        for finding in found:
            self._log.found(finding)
        if not self._stop_on:
            return found
        ends = [finding for finding in found if finding.rule in self._stop_on]
        rules = list(self._stop_on)
        number = rules.index(ends[0].rule) + 1 if ends else 0
        said = torch.tensor([number, int(self._watch.is_suspect)], device=self._device)
        number, suspect = broadcast_from_main(said).tolist()  # of a process, its own share only
        self._is_suspect = bool(suspect)
        if number:
            rule = rules[number - 1]
            of_main = Finding(rule, step, f"{rule} found by the main process")
            self._saver.wait()  # what the line says is left
            raise UnhealthyRun(ends[0] if is_main() else of_main, step, self._directory)
        return found

    @property
    def may_save(self) -> bool:
        """Whether no rule in `run.stop_on` suspects the last step that was looked at."""
        return not self._is_suspect

    def needs_look(self, step: int) -> bool:
        """Whether a checkpoint of this step must be looked at first.

        What is suspected waits for the next line of the log: one after another tell little more.
        """
        return bool(self._stop_on) and step != self._looked_at and not self._is_suspect


def outlook(run: Run) -> Outlook:
    """What the rules know of a run beside its numbers, once it has made a step."""
    config, plan = run.config, run.plan
    rows = config.batch_size // run.num_shards
    if run.method.needs_labels:
        rows = min(rows, len(run.images.class_names))
    return Outlook(
        method=type(run.method).__name__,
        rows=rows,
        width=1 if run.method.projections is None else run.method.projections.shape[2],
        total_steps=plan.total_steps,
        warmup_steps=plan.warmup_epochs * plan.steps_per_epoch,
        temperature=run.method.temperature,
        queue_size=run.method.queue_size,
        suspects=run.method.suspects,
    )

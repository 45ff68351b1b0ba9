"""Runs as processes of this machine, each with its share of the cores, and of the GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval.system.folder_lock import InUseError, sole_use
from linear_eval.system.screen import say
from ssl_bf.study.study_file import StudyConfig
from ssl_bf.study.tasks import Task

if TYPE_CHECKING:  # a job of Slurm needs no torch to start what does
    from ssl_bf.study.arms import Arm

_EVERY = 0.2  # seconds between two looks


@dataclass(frozen=True, eq=False)
class Process:
    """A task that was started."""

    watched: subprocess.Popen[bytes]

    def poll(self) -> int | None:
        """Its exit code; None while it works."""
        return self.watched.poll()

    def stop(self) -> None:
        """Ask it to save and stop; it may take a step until it did."""
        if self.watched.stdin is not None:
            self.watched.stdin.close()


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Starts tasks here.

    Attributes:
        threads: of each.
        gpus: names of those that tasks take in turns; with fewer than two, each sees what we see.
    """

    threads: int
    gpus: tuple[str, ...] = ()

    def start(self, task: Task, slot: int) -> Process:
        """Start a task; what it prints goes behind what is in its log.

        Args:
            task: that is not done.
            slot: which of those that work at a time it is, from 0.
        """
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        if len(self.gpus) > 1:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        _wait_until_free(task.run.directory)
        task.run.log.parent.mkdir(parents=True, exist_ok=True)
        with task.run.log.open("ab") as log:
            watched = subprocess.Popen(
                [sys.executable, "-m", "ssl_bf.study.watched", *task.command()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C is for us alone: a second signal would not save
            )
        return Process(watched)


def _wait_until_free(directory: Path) -> None:
    """Until a run that a killed `ablate` left behind has saved and ended."""
    has_said = False
    while directory.is_dir():
        try:
            with sole_use(directory):
                return
        except InUseError:
            if not has_said:
                say(f"{directory}: another process still works there; waiting for it")
            has_said = True
            time.sleep(_EVERY)


class Here:
    """This machine."""

    def check(self, study: StudyConfig, arms: Sequence[Arm]) -> None:
        """Everything works here."""

    def threads(self, study: StudyConfig) -> int:
        """A run's share of the cores."""
        from linear_eval.system.cores import usable_cores

        return max(1, usable_cores() // study.jobs)

    def launcher(self, study: StudyConfig, threads: int) -> Processes:
        """Processes."""
        import torch

        del study
        names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        count = torch.cuda.device_count()
        gpus = names if len(names) == count else [str(number) for number in range(count)]
        return Processes(threads=threads, gpus=tuple(gpus))

"""Runs of a contest: each a plain run directory, trained by a process that can be stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from linear_eval.system.errors import RunFailed
from linear_eval.system.screen import say
from ssl_bf.config import PretrainConfig
from ssl_bf.study.processes import Processes
from ssl_bf.study.run_folder import BACKBONE, StudyRun
from ssl_bf.study.schedule import do_all
from ssl_bf.study.tasks import CONFIGS, Task
from ssl_bf.worth.recipes import write_config


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A run that a stage asks for.

    Attributes:
        name: of its config and folder.
        seed: of initial values, views and order.
        config: all else.
    """

    name: str
    seed: int
    config: PretrainConfig

    def of(self, output: Path) -> StudyRun:
        """Where it is."""
        return StudyRun(study=output, arm=self.name, seed=self.seed)


def backbone_of(output: Path, wanted: Wanted) -> Path:
    """The file that a trained run leaves."""
    return wanted.of(output).directory / BACKBONE


def train(output: Path, runs: Sequence[Wanted], *, jobs: int) -> list[Wanted]:
    """Train what is not trained yet.

    Returns:
        Those that are trained; others failed, which is said.

    Raises:
        InputError: the input of a run is wrong.
        RunFailed: none could be trained.
        StoppedBySignal: a signal asked for it; begun runs are saved.
    """
    tasks = []
    for wanted in runs:
        path = output / CONFIGS / f"{wanted.name}.yaml"
        write_config(wanted.config, path)
        texts = (f"seed={wanted.seed}",)
        tasks.append(Task(what="train", run=wanted.of(output), config=path, overrides=texts))
    threads = runs[0].config.speed.threads
    assert isinstance(threads, int), threads
    failed = {task.run for task in do_all(tasks, Processes(threads=threads), jobs=jobs)}
    done = [wanted for wanted in runs if wanted.of(output) not in failed]
    if not done:
        raise RunFailed(
            f"{len(failed)} run(s) failed, named above; the same command tries them again"
        )
    if failed:
        say(f"{len(failed)} run(s) failed and are left out")
    return done

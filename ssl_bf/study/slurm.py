"""Runs as jobs of Slurm, by submitit (extra `slurm`); a pre-empted one goes on in the next job."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linear_eval.system.atomic_file import atomic_file
from linear_eval.system.errors import EXIT_FAILED, InputError
from ssl_bf.study.processes import Process, Processes
from ssl_bf.study.study_file import StudyConfig
from ssl_bf.study.tasks import Task

if TYPE_CHECKING:
    from ssl_bf.study.arms import Arm

_EVERY = 0.5  # seconds between two looks of a job at its run


class TaskInJob:
    """What a job calls: does a task, and when told that time is up, lets it save and ask again.

    `checkpoint` is submitit's name for that.
    """

    def __init__(self, task: Task, threads: int) -> None:
        """For one task, on so many threads."""
        self._task = task
        self._threads = threads
        self._process: Process | None = None

    def __call__(self) -> int:
        """Do it and return its exit code."""
        self._process = Processes(threads=self._threads).start(self._task, slot=0)
        return _waited_for(self._process)

    def checkpoint(self) -> Any:
        """Stop the run, which saves, and say what is to be done in the next job: the same."""
        import submitit

        if self._process is not None:
            self._process.stop()
            _waited_for(self._process)
        return submitit.helpers.DelayedSubmission(TaskInJob(self._task, self._threads))


def _waited_for(process: Process) -> int:
    while (code := process.poll()) is None:
        time.sleep(_EVERY)
    return code


@dataclass(frozen=True, eq=False)
class Job:
    """A job of submitit."""

    job: Any

    def poll(self) -> int | None:
        """The exit code of its task, 1 if the job itself failed; None while it waits or works."""
        if not self.job.done():
            return None
        if self.job.exception() is not None:
            return EXIT_FAILED
        return int(self.job.result())

    def stop(self) -> None:
        """Cancel it: Slurm sends SIGTERM first, and the run saves."""
        self.job.cancel()


@dataclass(frozen=True, eq=False, kw_only=True)
class Jobs:
    """Submits tasks.

    Attributes:
        executor: of submitit.
        threads: of each.
        known: file that keeps the number of each task's job: one that a killed `ablate` left at
            work is waited for, not submitted again.
    """

    executor: Any
    threads: int
    known: Path

    def start(self, task: Task, slot: int) -> Job:
        """Submit a task, or find its job."""
        del slot
        numbers = json.loads(self.known.read_bytes()) if self.known.is_file() else {}
        if task.name in numbers:
            job = self.executor.job_class(self.executor.folder, numbers[task.name])
            if not job.done():
                return Job(job)
        job = self.executor.submit(TaskInJob(task, self.threads))
        with atomic_file(self.known) as file:
            file.write(json.dumps({**numbers, task.name: job.job_id}).encode())
        return Job(job)


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """A cluster.

    Attributes:
        cluster: of submitit: "slurm", or "local" for its executor without a cluster.
    """

    cluster: str = "slurm"

    def check(self, study: StudyConfig, arms: Sequence[Arm]) -> None:
        """Refuse what would be measured here, and no Slurm.

        Raises:
            InputError: naming the key, or the extra.
        """
        if importlib.util.find_spec("submitit") is None:
            raise InputError(
                "--launch slurm: submitit is not installed; pip install 'ssl-bf[slurm]'"
            )
        import submitit

        if self.cluster == "slurm" and not submitit.SlurmExecutor.affinity() > 0:
            raise InputError("--launch slurm: srun is not found here, expected a machine of Slurm")
        if study.budget.rule == "seconds":
            raise InputError(
                "budget.rule: seconds are measured on this machine, and --launch slurm trains on "
                "others; set budget.rule=steps"
            )
        for arm in arms:
            if arm.config.precision == "auto":
                raise InputError(
                    "precision: auto is measured on this machine, and --launch slurm trains on "
                    f"others ({arm.name}); set precision=bf16 or precision=float32"
                )

    def threads(self, study: StudyConfig) -> int:
        """The cores of a job."""
        return study.slurm.cores

    def launcher(self, study: StudyConfig, threads: int) -> Jobs:
        """Jobs, as `slurm` of the study asks for."""
        import submitit

        folder, asked = Path(study.directory) / "jobs", study.slurm
        executor = submitit.AutoExecutor(folder=folder, cluster=self.cluster)
        partition = {} if asked.partition is None else {"slurm_partition": asked.partition}
        executor.update_parameters(
            timeout_min=asked.minutes,
            cpus_per_task=asked.cores,
            gpus_per_node=asked.gpus,
            name="ssl-bf",
            **partition,
        )
        known = Path(study.directory) / "jobs.json"
        return Jobs(executor=executor, threads=threads, known=known)

"""Two processes of torchrun, one of which is killed or stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
import yaml

import linear_eval
from ssl_bf.run.checkpoint import load_newest
from tests.tiny_run import TINY

ROOT = Path(linear_eval.__file__).parents[1]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
AUTO = ["-m", "ssl_bf", "pretrain", "tiny.yaml", "run.resume=auto"]
PATIENCE = 400  # seconds, on a busy machine
STEPS = 40


class Started:
    """torchrun and its processes, in a folder."""

    def __init__(self, folder: Path, *more: str) -> None:
        tiny = {**TINY, "epochs": STEPS, "speed": {"device": "cpu", "threads": 1}}
        tiny["run"] = {**TINY["run"], "log_every": 1, "save_every": "5steps"}
        tiny["run"]["collective_timeout"] = 10
        (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny))
        self.folder, self.errors = folder, folder / "errors"
        with self.errors.open("w") as errors:
            self.agent = subprocess.Popen(
                [sys.executable, *TORCHRUN, *more, *AUTO],
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )

    def wait_for_step(self, step: int) -> None:
        file = self.folder / "run/metrics.jsonl"
        end = time.monotonic() + PATIENCE
        while not file.exists() or len(file.read_bytes().splitlines()) < step:
            assert time.monotonic() < end, self.errors.read_text()
            assert self.agent.poll() is None, self.errors.read_text()
            time.sleep(0.05)

    def workers(self) -> dict[int, int]:
        """Rank -> process."""
        found = {}
        for each in Path("/proc").glob("[0-9]*"):
            try:
                words = (each / "environ").read_bytes().split(b"\0")
                is_ours = (each / "cwd").readlink() == self.folder
            except OSError:
                continue
            rank = [word[5:] for word in words if word.startswith(b"RANK=")]
            if is_ours and rank:
                found[int(rank[0])] = int(each.name)
        return found

    def wait_for_the_end_of_all(self) -> None:
        self.agent.wait(PATIENCE)
        end = time.monotonic() + PATIENCE
        while self.workers():
            assert time.monotonic() < end, "processes are left over"
            time.sleep(0.1)


@contextmanager
def started(folder: Path, *more: str) -> Iterator[Started]:
    run = Started(folder, *more)
    try:
        yield run
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.agent.pid, signal.SIGKILL)
        run.agent.wait()


def whole_run(folder: Path) -> Path:
    """The run that nothing disturbs."""
    with started(folder) as run:
        assert run.agent.wait(PATIENCE) == 0, run.errors.read_text()
    return folder / "run"


def assert_same(ours: Path, theirs: Path) -> None:
    one, other = load_newest(ours), load_newest(theirs)
    assert one.step == other.step == STEPS
    assert one.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


def our_lines(run: Started) -> list[str]:
    return [line for line in run.errors.read_text().splitlines() if line.startswith("error: ")]


def kill_and_restart(rank: int, step: int, folder: Path, whole: Path) -> None:
    """SIGKILL after a step, under automatic restart: it is named, and the same bits come out."""
    with started(folder, "--max-restarts", "3") as run:
        run.wait_for_step(step)
        os.kill(run.workers()[rank], signal.SIGKILL)
        run.wait_for_the_end_of_all()
        assert run.agent.returncode == 0, run.errors.read_text()
        (line,) = our_lines(run)
        assert line.startswith(f"error: process {rank} of this run ("), line
        assert " is gone, ended; saved up to step " in line, line
        assert ", go on with: torchrun" in line, line
    assert_same(folder / "run", whole)


def stop(rank: int, step: int, folder: Path) -> float:
    """SIGSTOP after a step: it is named, and the others end; seconds until torchrun has."""
    with started(folder) as run:
        run.wait_for_step(step)
        os.kill(run.workers()[rank], signal.SIGSTOP)
        stopped = time.monotonic()
        run.wait_for_the_end_of_all()
        seconds = time.monotonic() - stopped
        (line,) = our_lines(run)
        assert line.startswith(f"error: process {rank} of this run ("), line
        assert " is stopped, silent for " in line, line
    return seconds

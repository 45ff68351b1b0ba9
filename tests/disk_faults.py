"""One file-system call of a run fails, or is the last: one line, and the run can go on.

The calls are met by an audit hook in a fork, which sees every one that Python makes, and `fsync`.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from ssl_bf.run.checkpoint import load_newest
from tests.forked import command
from tests.tiny_run import TINY

SCENARIOS = ("start", "resume")
AUTO = ["ssl-bf", "pretrain", "tiny.yaml", "run.resume=auto", "run.keep_last=1"]
EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "os.listdir"}
KILL = "KILL"
FAULTS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EROFS": errno.EROFS, KILL: 0}
READ_ONLY = {"reading", "os.scandir", "os.listdir"}  # work on a disk that turned read-only


def watch(act: Callable[[int, str], None]) -> None:
    """Call `act(number, event)` before each call below the run's directory, from now on."""
    count, folder = 0, Path.cwd()

    def met(event: str, path: Any) -> None:
        nonlocal count
        text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
        below = os.path.relpath(text or "/", folder).split("/")[0]
        if below == "run" or below.startswith(".run."):
            count += 1
            act(count, event)

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event in EVENTS and given:
            reads = event == "open" and not given[2] & (os.O_WRONLY | os.O_RDWR)
            met("reading" if reads else event, given[0])

    fsync = os.fsync

    def synced(descriptor: Any) -> None:
        met("fsync", Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    system: Any = os
    system.fsync = synced
    sys.addaudithook(hook)


def failing(at: int, fault: str) -> Callable[[], None]:
    number = FAULTS[fault]

    def act(count: int, event: str) -> None:
        is_due = count == at or (count > at and fault == "EROFS")
        if not is_due or (fault == "EROFS" and event in READ_ONLY):
            return
        if fault == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(number, os.strerror(number), "injected")

    return lambda: watch(act)


def counting(file: Path) -> Callable[[], None]:
    def act(count: int, event: str) -> None:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{event}\n".encode())
        os.close(descriptor)

    return lambda: watch(act)


def prepare(scenario: str, folder: Path) -> None:
    folder.mkdir()
    os.chdir(folder)
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    if scenario == "resume":
        stop = failing_step()
        assert command(AUTO, Path("errors"), stop) == -signal.SIGKILL


def failing_step() -> Callable[[], None]:
    """A process killed in its second step, once its first is saved."""

    def patch() -> None:
        import ssl_bf.train

        update = ssl_bf.train._update

        def call(run: Any, batch: Any, context: Any, progress: Any) -> torch.Tensor:
            if context.step == 1:
                while not list(Path("run/checkpoints").glob("step-*")):
                    pass
                os.kill(os.getpid(), signal.SIGKILL)
            return update(run, batch, context, progress)

        ssl_bf.train._update = call

    return patch


def counted_calls(scenario: str, place: Path) -> list[str]:
    """The calls of the command that nothing disturbs; its run stays in `place/counted`."""
    prepare(scenario, place / "counted")
    assert command(AUTO, Path("errors"), counting(place / "calls")) == 0
    return (place / "calls").read_text().split()


def try_fault(scenario: str, fault: str, at: int, event: str, place: Path) -> None:
    """Let call number `at` fail; `counted_calls` was called with the same place.

    Raises:
        AssertionError: the command says another thing than one line, cannot go on, or litters.
    """
    expected = load_newest(place / "counted/run").tensors
    prepare(scenario, place / f"{fault}_{at}")
    code = command(AUTO, Path("errors"), failing(at, fault))
    said, where = Path("errors").read_text(), (scenario, fault, at, event)
    assert "Traceback" not in said, (where, said)
    if fault == KILL:
        assert code == -signal.SIGKILL, where
    else:
        assert code in (0, 2), (where, said)
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        assert len(errors) == (code == 2), (where, said)
    assert command(AUTO, Path("errors")) == 0, (where, said, Path("errors").read_text())
    tensors = load_newest(Path("run")).tensors
    assert all(torch.equal(tensors[name], value) for name, value in expected.items()), where
    litter = [path.name for path in Path("run").rglob(".*")]
    assert litter == [], (where, litter)

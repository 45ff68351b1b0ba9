"""How many cores this process may use, and how many threads it should have; decided here alone.

A machine, a container and a job each set limits. torch knows the affinity only: in a container that
may use 2 of 64 cores it would start 64 threads.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import torch

from linear_eval.system.distributed import local_world_size

MOST_READERS = 32  # more threads that decode wait for Python's lock


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use, >= 1: its share among the processes torchrun started here.

    The least of the affinity and of the quotas of its control group and of those around that one;
    a quota of 2.5 cores counts as 2, as a third thread would only be stopped in turn.

    Args:
        root: where `proc` and `sys` are.
    """
    cores, quota = len(_affinity()), cpu_quota(root)
    return max(1, (cores if quota is None else min(cores, int(quota))) // local_world_size())


def _affinity() -> set[int]:
    """The cores that the system runs this process on."""
    of_process = getattr(os, "sched_getaffinity", None)  # Linux has it
    return set(of_process(0)) if of_process else set(range(os.cpu_count() or 1))


def reading_threads() -> int:
    """Threads that read and decode images."""
    return min(MOST_READERS, usable_cores())


def asked_threads() -> int | None:
    """What OMP_NUM_THREADS asks for; None where it is not set.

    A 1 does not count where torchrun started several processes here: it sets that by itself.
    """
    first = re.match(r"\s*([1-9][0-9]*)\s*(,|$)", os.environ.get("OMP_NUM_THREADS", ""))
    if first is None or (first[1] == "1" and local_world_size() > 1):
        return None
    return int(first[1])


class CoreUse(NamedTuple):
    """How long cores have worked by now, in seconds; differences mean something."""

    now: float
    all: float  # for every process, on the cores of this one's affinity; 0 where nobody counts
    own: float  # for this process


def core_use(root: Path = Path("/")) -> CoreUse:
    """At this moment; Linux counts in hundredths of a second.

    Args:
        root: where `proc` is.
    """
    ticks, names = 0, {f"cpu{number}" for number in _affinity()}
    for line in _lines(root / "proc/stat"):
        name, *spent = line.split()
        if name in names:
            user, nice, system, _idle, _waiting, *interrupts = map(int, spent[:8])
            ticks += user + nice + system + sum(interrupts)
    return CoreUse(time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time())


def lacks_cores(since: CoreUse, now: CoreUse) -> bool:
    """Whether other processes left this one fewer cores than it may use, by a quarter at least."""
    others = (now.all - since.all) - (now.own - since.own)
    left = len(_affinity()) - others / max(now.now - since.now, 1e-9)
    return left < usable_cores() - 0.25


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Inside, this thread's operations use `count` threads; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Cores that the control groups of this process grant it; None where none sets a bound.

    Reads cgroup v2 (`cpu.max`) and v1 (`cpu.cfs_quota_us`), and all groups above as far as they are
    visible: the least counts.
    """
    groups = _lines(root / "proc/self/cgroup")
    mounts = [line.split(" ") for line in _lines(root / "proc/self/mountinfo")]
    quotas: list[float] = []
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for shown, place in _mounted(mounts, is_v2=not controllers):
            quotas += _quotas_above(root / place.lstrip("/"), _below(path, shown))
    return min(quotas, default=None)


def _mounted(mounts: list[list[str]], *, is_v2: bool) -> Iterator[tuple[str, str]]:
    """Which group each mount shows, and where, of the hierarchy that bounds the CPU."""
    for mount in mounts:
        kind = mount[mount.index("-") + 1] if "-" in mount else ""
        options = mount[-1].split(",")
        if kind == "cgroup2" if is_v2 else (kind == "cgroup" and "cpu" in options):
            yield mount[3], mount[4]


def _below(path: str, shown: str) -> PurePosixPath:
    """Where a group lies below the one that a mount shows; at its top if it is not visible."""
    group = PurePosixPath(path)
    if ".." in group.parts or not group.is_relative_to(shown):
        return PurePosixPath()  # of a container: its own group is what is mounted
    return group.relative_to(shown)


def _quotas_above(mount: Path, group: PurePosixPath) -> Iterator[float]:
    for folder in (mount / each for each in (group, *group.parents)):
        v1 = _lines(folder / "cpu.cfs_quota_us") + _lines(folder / "cpu.cfs_period_us")
        words = " ".join(_lines(folder / "cpu.max") or v1).split()
        if len(words) == 2 and words[0] not in ("max", "-1"):
            yield int(words[0]) / int(words[1])


def _lines(file: Path) -> list[str]:
    """Of a small file of the system; none where it is absent or closed to us."""
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []

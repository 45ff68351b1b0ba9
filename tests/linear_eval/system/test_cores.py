"""Tests of linear_eval.system.cores, with control groups as files drawn for the purpose."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from linear_eval.system import cores
from linear_eval.system.cores import (
    CoreUse,
    asked_threads,
    core_use,
    cpu_quota,
    lacks_cores,
    reading_threads,
    torch_threads,
    usable_cores,
)

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "31 23 0:27 {shown} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
OTHER_V1 = "32 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
DISK = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw"


def draw(root: Path, groups: str, mounts: list[str], files: dict[str, str]) -> Path:
    given = {"proc/self/cgroup": groups, "proc/self/mountinfo": "\n".join([DISK, *mounts])}
    for name, text in (given | files).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.fixture(autouse=True)
def _sixty_four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/", {"cpu.max": "200000 100000"}, 2.0),  # a container sees its own group as the top
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {}, None),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "350000 100000"}, 3.5),
        ("0::/a/b", {"a/b/cpu.max": "100000 50000", "a/cpu.max": "350000 100000"}, 2.0),
        ("0::/a/b", {"a/b/cpu.max": "900000 100000", "a/cpu.max": "350000 100000"}, 3.5),
        ("0::/../other", {"cpu.max": "150000 100000"}, 1.5),
    ],
)
def test_the_least_quota_of_all_groups_around_counts(
    groups: str, files: dict[str, str], quota: float | None, tmp_path: Path
) -> None:
    placed = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    assert cpu_quota(draw(tmp_path, groups, [V2], placed)) == quota


@pytest.mark.parametrize(
    ("path", "shown", "files", "quota"),
    [
        ("/docker/x", "/docker/x", {"": ("400000", "100000")}, 4.0),
        ("/docker/x", "/", {"docker/x/": ("-1", "100000"), "docker/": ("300000", "100000")}, 3.0),
        ("/docker/x", "/", {"docker/x/": ("-1", "100000")}, None),
        ("/", "/", {"": ("25000", "100000")}, 0.25),
        ("/unseen", "/docker/x", {"": ("400000", "100000")}, 4.0),
    ],
)
def test_version_1_of_control_groups_is_read_too(
    path: str, shown: str, files: dict[str, tuple[str, str]], quota: float | None, tmp_path: Path
) -> None:
    placed = {}
    for folder, (limit, period) in files.items():
        placed[f"sys/fs/cgroup/cpu,cpuacct/{folder}cpu.cfs_quota_us"] = limit
        placed[f"sys/fs/cgroup/cpu,cpuacct/{folder}cpu.cfs_period_us"] = period
    groups = f"5:memory:/tiny\n4:cpu,cpuacct:{path}\n0::/"
    mounts = [OTHER_V1, V1.format(shown=shown)]
    assert cpu_quota(draw(tmp_path, groups, mounts, placed)) == quota


def test_where_nothing_is_told_the_affinity_counts(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None
    assert usable_cores(tmp_path) == 64
    assert reading_threads() <= 32


@pytest.mark.parametrize(
    ("quota", "processes", "cores"),
    [("max", 1, 64), ("250000", 1, 2), ("50000", 1, 1), ("800000", 4, 2), ("max", 4, 16)],
)
def test_cores_are_shared_among_the_processes_of_a_machine(
    quota: str, processes: int, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path, "0::/", [V2], {"sys/fs/cgroup/cpu.max": f"{quota} 100000"})
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(
    ("text", "processes", "asked"),
    [
        ("3", 1, 3),
        (" 4,2", 1, 4),
        ("1", 1, 1),
        ("1", 2, None),  # of torchrun, not of a person
        ("2", 2, 2),
        ("", 1, None),
        ("many", 1, None),
        ("0", 1, None),
    ],
)
def test_omp_num_threads_is_a_wish(
    text: str, processes: int, asked: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert asked_threads() == asked


def test_torch_has_its_threads_back_afterwards() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), torch_threads(before + 2):
        assert torch.get_num_threads() == before + 2
        raise KeyError
    assert torch.get_num_threads() == before


STAT = """\
cpu  900 0 300 9000 0 0 0 0 0 0
cpu0 {0} 0 100 900 0 0 0 0 0 0
cpu1 {1} 10 100 900 50 5 5 20 0 0
cpu2 {2} 0 100 900 0 0 0 0 0 0
intr 1 2 3
"""


def used(root: Path, *ticks: int) -> CoreUse:
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/stat").write_text(STAT.format(*ticks))
    return core_use(root)


def test_work_is_counted_on_the_cores_of_the_affinity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    hertz = os.sysconf("SC_CLK_TCK")
    first, second = used(tmp_path, 1, 2, 3), used(tmp_path, 101, 202, 903)
    assert first.all * hertz == pytest.approx(1 + 100 + 2 + 10 + 100 + 5 + 5 + 20)
    assert (second.all - first.all) * hertz == pytest.approx(300)
    assert core_use(tmp_path / "nothing").all == 0


@pytest.mark.parametrize(
    ("all_", "own", "usable", "lacking"),
    [
        (20.0, 20.0, 2, False),  # alone
        (11.0, 10.0, 2, False),  # a little beside us
        (20.0, 12.0, 2, True),  # one busy process on the other core
        (15.0, 10.0, 2, True),
        (20.0, 10.0, 1, False),  # torchrun's other process works on its own core
        (0.0, 10.0, 2, False),  # nobody counts
    ],
)
def test_cores_are_lacking_where_others_leave_fewer_than_this_process_may_use(
    all_: float, own: float, usable: int, lacking: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(cores, "usable_cores", lambda: usable)
    since = CoreUse(now=100.0, all=7.0, own=3.0)
    assert lacks_cores(since, CoreUse(now=110.0, all=7.0 + all_, own=3.0 + own)) == lacking


def test_a_busy_process_is_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            before = core_use()
            time.sleep(0.5)
            after = core_use()
        finally:
            busy.kill()
    assert after.all - before.all > 0.1

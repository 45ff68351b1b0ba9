"""What a run was computed with: software, hardware, commit; never paths or host names."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from linear_eval.system.cores import usable_cores
from linear_eval.system.versions import versions


def describe_environment() -> dict[str, Any]:
    """JSON values; two runs with equal ones can be expected to agree to the bit on the CPU."""
    return {
        "versions": versions(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": {
            "model": _cpu_model(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "cores": usable_cores(),
            "torch_threads": torch.get_num_threads(),
        },
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "git_commit": git_commit(),
    }


def compiler_fault(device: torch.device) -> str | None:
    """Why torch.compile does not work for a device, in one line; None where it does."""
    try:
        torch.compile(torch.sin)(torch.zeros(8, device=device))
    except RuntimeError as error:  # no compiler, no Triton, an unknown version of Python
        return " ".join(str(error).splitlines()[:2]).strip()
    return None


HERE = Path(__file__).parent
CPU_FACTS = Path("/proc/cpuinfo")


def git_commit(folder: Path = HERE) -> str | None:
    """Commit of a source tree, by default this one; "+changes" where tracked files differ.

    None outside a repository, before its first commit, or without git.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return commit + ("+changes" if changes else "")


def changed_keys(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """Differences between two descriptions as "versions.torch: 2.15.0 -> 2.16.0"."""
    changes = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            changes += changed_keys(old, new, f"{prefix}{key}.")
        elif old != new:
            changes.append(f"{prefix}{key}: {old} -> {new}")
    return changes


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_model() -> str:
    """Of the first core, as Linux tells it."""
    lines = CPU_FACTS.read_text().splitlines() if CPU_FACTS.exists() else []
    facts = (line.partition(":") for line in lines)
    told = (value.strip() for name, _, value in facts if name.strip() == "model name")
    return next(told, "") or platform.processor() or platform.machine()

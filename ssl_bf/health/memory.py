"""Memory that this process holds, of the machine and of the GPU."""

from __future__ import annotations

import os
from pathlib import Path

import torch

_STATM = Path("/proc/self/statm")
_MIB = 2**20


def memory_in_use() -> dict[str, float]:
    """`memory_mib` where the system tells it (Linux), `device_memory_mib` where a GPU is in use.

    The first is what the process holds now; the second the most that its tensors took so far.
    """
    values = {}
    if _STATM.exists():
        pages = int(_STATM.read_text().split()[1])
        values["memory_mib"] = round(pages * os.sysconf("SC_PAGE_SIZE") / _MIB, 1)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        values["device_memory_mib"] = round(torch.cuda.max_memory_allocated() / _MIB, 1)
    return values


def memory_there(device: torch.device) -> int:
    """Bytes of the GPU, or of the machine: what no run can exceed."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

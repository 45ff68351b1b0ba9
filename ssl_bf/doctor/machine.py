"""What is asked of this machine: versions, memory, how fast it multiplies."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

from linear_eval.system.errors import InputError, require_matching_torch
from linear_eval.system.versions import versions
from ssl_bf.doctor.finding import Finding

SIDE, ROUNDS = 512, 5


def version_finding(found: Mapping[str, str] | None = None) -> Finding:
    """Versions that matter, and conflicts among them; `found` is for tests."""
    found = versions() if found is None else found
    listed = ", ".join(f"{name} {version}" for name, version in found.items())
    try:
        require_matching_torch()
    except InputError as error:
        return Finding("wrong", "versions", str(error))
    if "faiss-gpu" in found and "faiss-cpu" in found:
        return Finding(
            "wrong", "versions", f"{listed}; two faiss in one place: uninstall one of them"
        )
    return Finding("fine", "versions", listed)


def milliseconds_of_products(device: torch.device) -> dict[str, float]:
    """Shortest of a few products in each precision that the device has."""
    a = torch.randn(SIDE, SIDE, device=device)
    halves = a.bfloat16()
    bytes_ = torch.randint(-8, 8, (SIDE, SIDE), dtype=torch.int8, device=device)
    found = {
        "float32": _shortest(lambda: a @ a, device),
        "bf16": _shortest(lambda: halves @ halves, device),
    }
    if hasattr(torch, "_int_mm"):
        found["int8"] = _shortest(lambda: torch._int_mm(bytes_, bytes_), device)
    return found


def _shortest(product: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        product()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return 1000 * min(times)

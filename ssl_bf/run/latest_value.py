"""The latest number that a device has computed, read without waiting for the device."""

from __future__ import annotations

import torch
from torch import Tensor


class LatestValue:
    """Follows a scalar that every step makes anew."""

    def __init__(self) -> None:
        """Nothing is on its way yet."""
        self._copy: Tensor | None = None
        self._arrival: torch.cuda.Event | None = None

    def follow(self, value: Tensor) -> float | None:
        """The newest number that is here; None if none has come since the last call.

        A number on the CPU is here. Of those on a GPU one at a time is copied, behind the work that
        waits there, and read by the first call after it has arrived.

        Args:
            value: scalar of the step just begun, without or with gradient.
        """
        if value.device.type == "cpu":
            return float(value.detach())
        arrived = None
        if self._copy is not None and self._arrival is not None and self._arrival.query():
            arrived, self._arrival = float(self._copy), None
        if self._arrival is None:
            self._copy, self._arrival = _begin_copy(value.detach())
        return arrived


def _begin_copy(value: Tensor) -> tuple[Tensor, torch.cuda.Event]:
    """Where the number will be, and when: pinned memory, or the copy would wait for the GPU."""
    copy = torch.empty_like(value, device="cpu", pin_memory=True)
    copy.copy_(value, non_blocking=True)
    arrival = torch.cuda.Event()
    arrival.record()
    return copy, arrival

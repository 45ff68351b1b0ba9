"""What a tracker does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Tracker(Protocol):
    """Is told the numbers of each logged step, by the main process alone."""

    def add(self, step: int, epoch: float, numbers: Mapping[str, float]) -> None:
        """Take finite numbers by name; `step` counts finished updates and never falls."""

    def close(self) -> None:
        """Write what is left."""

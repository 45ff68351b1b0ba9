"""TensorBoard: event files in the folder `tensorboard` of a run's directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

FOLDER = "tensorboard"


class TensorboardEvents:
    """Writes events; raises ImportError where the package is not installed."""

    def __init__(self, run_directory: Path, resume_step: int | None) -> None:
        """Begin, or with `resume_step` hide the events of later steps."""
        from torch.utils.tensorboard import SummaryWriter

        purge_step = None if resume_step is None else resume_step + 1
        self._writer = SummaryWriter(run_directory / FOLDER, purge_step=purge_step)

    def add(self, step: int, epoch: float, numbers: Mapping[str, float]) -> None:
        """Write a scalar per number."""
        del epoch
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()

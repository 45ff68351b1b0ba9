"""Which trackers a run has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssl_bf.trackers.csv_table import CsvTable
from ssl_bf.trackers.tensorboard_events import TensorboardEvents
from ssl_bf.trackers.tracker import Tracker
from ssl_bf.trackers.wandb_run import WandbRun


@dataclass(frozen=True, kw_only=True)
class TrackerChoice:
    """As the keys of `run` say.

    Attributes:
        tensorboard: where the package is installed.
        csv: metrics.csv.
        wandb: Weights & Biases.
    """

    tensorboard: bool = False
    csv: bool = False
    wandb: Literal["off", "offline", "online"] = "off"

    def open(self, run_directory: Path, resume_step: int | None) -> tuple[list[Tracker], list[str]]:
        """The trackers, and lines for the user about those that cannot be had."""
        found: list[Tracker] = []
        notes = []
        if self.tensorboard:
            try:
                found.append(TensorboardEvents(run_directory, resume_step))
            except ImportError:
                notes.append("no TensorBoard events: the package tensorboard is not installed")
        if self.csv:
            found.append(CsvTable(run_directory, resume_step))
        if self.wandb != "off":
            found.append(WandbRun(run_directory, self.wandb))
        return found, notes

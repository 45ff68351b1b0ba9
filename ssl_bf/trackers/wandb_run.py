"""Weights & Biases, with a server or offline (`wandb sync` sends the files later)."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

FOLDER = "wandb"


class WandbRun:
    """One run of W&B; a resumed run is a second one of the same group, for a step is never undone.

    The package is imported here alone, and nothing is sent with `offline`.
    """

    def __init__(self, run_directory: Path, mode: Literal["offline", "online"]) -> None:
        """Begin a run in the folder `wandb` of a run's directory."""
        import wandb

        self._run = wandb.init(
            project="ssl_bf",
            name=run_directory.name,
            group=run_directory.name,
            dir=str(run_directory),
            mode=mode,
            settings=wandb.Settings(silent=True, save_code=False, disable_git=True),
        )

    def add(self, step: int, epoch: float, numbers: Mapping[str, float]) -> None:
        """Log the numbers of a step."""
        self._run.log({**numbers, "epoch": epoch}, step=step)

    def close(self) -> None:
        """Write, or send, what is left."""
        self._run.finish()


def is_installed() -> bool:
    """Whether the package is there, without loading it."""
    return importlib.util.find_spec("wandb") is not None

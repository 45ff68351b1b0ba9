"""A run of seconds, for tests of the commands that begin one and go on with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import ssl_bf.train
from ssl_bf.run.signals import Asked, StopSignals

TINY: dict[str, Any] = {
    "data": {"name": "textures", "train_images": 40},
    "views": {"recipe": "moco_v2", "size": 16},
    "backbone": {"name": "small_conv"},
    "method": {"name": "simsiam", "projection_dim": 16, "hidden_dim": 16},
    "relation": {"name": "batchformer", "context": 8},
    "optimizer": {"name": "sgd"},
    "epochs": 2,
    "batch_size": 16,
    "precision": "float32",
    "speed": {"device": "cpu"},
    "run": {"directory": "run", "tensorboard": False, "save_every": "1epoch", "monitor_every": 0},
}
STEPS = 2

Start = Callable[..., None]


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    """Path -> digest and time of change, of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def save_images(folder: Path) -> None:
    """Eight of two classes each."""
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            Image.new("RGB", (20, 24), (20 * number, 0, 0)).save(folder / name / f"{number}.png")


def stop_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StopSignals, "agreed", lambda *_, save_is_due: Asked(True, save_is_due))


def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def update(*_: object) -> torch.Tensor:
        raise AssertionError("a step was made")

    monkeypatch.setattr(ssl_bf.train, "_update", update)

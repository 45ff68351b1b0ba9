"""Epochs of MoCo-v2 as lightly's documentation puts them together, on PIL images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bench.lightly_moco import LightlyMoCo
from linear_eval.datasets.dataset import ImageSplit
from ssl_bf.build import Run
from ssl_bf.methods.moco_v2 import MoCoV2
from ssl_bf.optimizers import SgdConfig
from ssl_bf.pixels.source import open_source
from ssl_bf.views.lightly_views import TwoViewTransform, lightly_transform

Views = tuple[Tensor, Tensor]


def lightly_epochs(run: Run, workers: int) -> Callable[[], tuple[int, float, Callable[[], Views]]]:
    """From the state that `run` has now: steps, loss of the last, and its views."""
    config, plan, model = run.config, run.plan, lightly_model(run)
    batches = DataLoader(
        Pictures(open_source(config.data).split, lightly_transform(config.views)),
        batch_size=config.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
    )

    def epoch() -> tuple[int, float, Callable[[], Views]]:
        for step, (view_1, view_2) in enumerate(batches):
            for group in model.optimizer.param_groups:
                group["lr"] = plan.learning_rate(step)
            loss = model.step(view_1.to(run.device), view_2.to(run.device))
        return step + 1, float(loss), lambda: (view_1, view_2)

    return epoch


def lightly_model(run: Run) -> LightlyMoCo:
    """With weights, queue and weight decay of `run`."""
    config, method = run.config, run.method
    assert isinstance(method, MoCoV2), method
    assert isinstance(config.optimizer, SgdConfig), config.optimizer
    decay = config.optimizer.weight_decay
    return LightlyMoCo(method, config.backbone.architecture, weight_decay=decay)


class Pictures(Dataset[list[Tensor]]):
    """Two views of each image of a split: files opened by PIL, or pixels that lie in memory."""

    def __init__(self, split: ImageSplit, transform: TwoViewTransform) -> None:
        self._transform = transform
        self._files: list[Path] | None = None
        self._pixels: list[NDArray[np.uint8]] = []
        if split.folder is not None:
            self._files = [split.folder / name for name in split.ids]
        else:
            rows = range(len(split))
            self._pixels = [split.read(row).permute(1, 2, 0).contiguous().numpy() for row in rows]

    def __len__(self) -> int:
        return len(self._pixels if self._files is None else self._files)

    def __getitem__(self, row: int) -> list[Tensor]:
        if self._files is None:
            return self._transform(Image.fromarray(self._pixels[row]))
        with Image.open(self._files[row]) as file:
            return self._transform(file.convert("RGB"))

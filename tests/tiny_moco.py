"""MoCo-v2 with BatchFormer in 9 steps, for tests that train in this process."""

from __future__ import annotations

from typing import Any

from linear_eval.strict_config.reader import parse_config
from ssl_bf.build import Run, build_run
from ssl_bf.config import PretrainConfig

TINY: dict[str, Any] = {
    "data": {"name": "textures", "train_images": 64},
    "views": {"recipe": "moco_v2", "size": 16},
    "backbone": {"name": "small_conv"},
    "method": {"name": "moco_v2", "projection_dim": 16, "hidden_dim": 16, "queue_size": 32},
    "relation": {"name": "batchformer", "context": 8},
    "optimizer": {"name": "sgd", "base_learning_rate": 0.5},
    "epochs": 3,
    "batch_size": 16,
    "precision": "float32",
    "speed": {"device": "cpu"},
    "run": {
        "directory": "unused: train() is given one",
        "tensorboard": False,
        "log_every": 1,
        "monitor_every": 0,
        "save_every": "1epoch",
    },
}
STEPS_PER_EPOCH, STEPS = 3, 9


def build(*overrides: str) -> Run:
    """The run, with overrides of `TINY`."""
    return build_run(parse_config(PretrainConfig, TINY, overrides).value)

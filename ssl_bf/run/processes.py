"""The processes of a run, from torchrun's environment to their end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from linear_eval.system.device import choose_device
from linear_eval.system.distributed import shut_down, start_from_environment, world_size
from ssl_bf.config import TrainingSpeedConfig
from ssl_bf.run.deterministic import deterministic_algorithms


@contextmanager
def joined_processes(speed: TrainingSpeedConfig) -> Iterator[None]:
    """Join torchrun's process group, if there is one, and leave it in the end.

    Raises:
        InputError: CUDA is asked for and absent, or torchrun's environment is incomplete.
    """
    device = choose_device(speed.device)
    start_from_environment(device.type)
    if device.type == "cuda" and world_size() == 1:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        with deterministic_algorithms() if speed.deterministic else nullcontext():
            yield
    finally:
        shut_down()

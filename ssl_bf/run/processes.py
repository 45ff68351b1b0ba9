"""The processes of a run, from torchrun's environment to their end."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from linear_eval.system.device import choose_device
from linear_eval.system.distributed import shut_down, start_from_environment, world_size
from ssl_bf.config import TrainingSpeedConfig
from ssl_bf.methods.method import Method
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


def distribute(method: Method, device: torch.device) -> nn.Module:
    """The method, inside DDP where there are several processes."""
    if world_size() == 1:
        return method
    devices = [device] if device.type == "cuda" else None
    # Keys are gathered, so the queues agree by themselves; running statistics are rank 0's.
    with warnings.catch_warnings():
        # torch 2.15 renames the argument, to a name that 2.11 does not know
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(
            method,
            device_ids=devices,
            broadcast_buffers=False,
            # While stream 1 does not exist, no gradient reaches the relation.
            find_unused_parameters=method.skips_parameters,
        )

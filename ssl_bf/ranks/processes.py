"""The processes of a run, from torchrun's environment to their end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from linear_eval.system.device import choose_device
from linear_eval.system.distributed import shut_down, start_from_environment, world_size
from ssl_bf.config import PretrainConfig
from ssl_bf.ranks.heartbeats import Heartbeats, naming_the_lost
from ssl_bf.ranks.parent import end_with_parent
from ssl_bf.run.deterministic import deterministic_algorithms


@contextmanager
def joined_processes(config: PretrainConfig) -> Iterator[Heartbeats | None]:
    """Join torchrun's process group, if there is one, and leave it in the end.

    Yields:
        How the processes hear each other; None where there is one.

    Raises:
        InputError: CUDA is asked for and absent, or torchrun's environment is incomplete.
        ProcessLost: another process is gone.
    """
    speed = config.speed
    device = choose_device(speed.device)
    end_with_parent()
    start_from_environment(device.type)
    if device.type == "cuda" and world_size() == 1:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        with ExitStack() as stack:
            if speed.deterministic:
                stack.enter_context(deterministic_algorithms())
            heartbeats = None
            if world_size() > 1:
                heartbeats = stack.enter_context(Heartbeats(config.run.collective_timeout))
            stack.enter_context(naming_the_lost(heartbeats, lambda: ""))
            yield heartbeats
    finally:
        shut_down()

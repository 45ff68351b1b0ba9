"""One method on several devices."""

import warnings

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from linear_eval.system.distributed import world_size
from ssl_bf.methods.method import Method


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

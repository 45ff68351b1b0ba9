"""Rank, world size and gathers; one process needs no special case.

Shapes: N rows of this process, W processes.
"""

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from linear_eval.errors import InputError

TIMEOUT = timedelta(minutes=30)


def is_distributed() -> bool:
    """Whether a process group is up."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Number of this process, 0 without a process group."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return dist.get_world_size() if is_distributed() else 1


def local_world_size() -> int:
    """Number of processes that torchrun started on this machine, 1 without it."""
    return max(1, _number_from_environment("LOCAL_WORLD_SIZE", default="1"))


def is_main() -> bool:
    """Whether this process is the one that writes files and logs."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process is here."""
    if is_distributed():
        dist.barrier()


def all_gather_rows(x: Tensor) -> Tensor:
    """Put the rows of all processes together, in rank order.

    Args:
        x: (N, ...); every process must hold the same shape.

    Returns:
        (W * N, ...), without gradient. For one process `x` itself.
    """
    if world_size() == 1:
        return x
    rows = x.detach().contiguous()
    gathered = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(gathered, rows)
    return torch.cat(gathered)


def broadcast_from_main(x: Tensor) -> Tensor:
    """Overwrite `x`, of the same shape in every process, with that of the main process."""
    if world_size() > 1:
        dist.broadcast(x, src=0)
    return x


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum over all processes, element by element, with gradient; for one process `x` itself.

    The gradient is that of the sum of all processes' losses: `x` of this process is a part of
    the result of every process.
    """
    if world_size() == 1:
        return x
    summed: Tensor = _AllReduceSum.apply(x)
    return summed


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        summed = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        del ctx
        return all_reduce_sum(gradients[0])


def start_from_environment(device: str) -> None:
    """Join the process group that torchrun describes in the environment, if it started us.

    Args:
        device: "cuda" talks over NCCL and takes the GPU of LOCAL_RANK; anything else over gloo.

    Raises:
        InputError: the environment describes a group only in part, or the machine has fewer GPUs
            than processes.
    """
    if not device.startswith("cuda"):
        join_gloo(TIMEOUT)
    elif _is_described():
        gpu = own_gpu()
        torch.cuda.set_device(gpu)
        dist.init_process_group("nccl", timeout=TIMEOUT, device_id=gpu)


def join_gloo(timeout: timedelta) -> None:
    """Join the group that torchrun describes, if it started us; it sends tensors of the CPU.

    Args:
        timeout: how long a process waits for the others.

    Raises:
        InputError: the environment describes a group only in part.
    """
    if _is_described():
        dist.init_process_group("gloo", timeout=timeout)


def own_gpu() -> torch.device:
    """The GPU of LOCAL_RANK.

    Raises:
        InputError: the machine has fewer GPUs than processes.
    """
    local_rank = _number_from_environment("LOCAL_RANK")
    if local_rank >= torch.cuda.device_count():
        raise InputError(
            f"LOCAL_RANK={local_rank}: this machine has {torch.cuda.device_count()} GPUs, expected "
            "one per process; start torchrun with a smaller --nproc-per-node"
        )
    return torch.device("cuda", local_rank)


def _is_described() -> bool:
    """Whether there is a group to join."""
    if _number_from_environment("WORLD_SIZE", default="1") == 1 or is_distributed():
        return False
    _number_from_environment("RANK")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        _require_in_environment(name)
    return True


def shut_down() -> None:
    """Leave the process group, if there is one."""
    if is_distributed():
        dist.destroy_process_group()


def _number_from_environment(name: str, default: str | None = None) -> int:
    text = _require_in_environment(name, default)
    if not (text.isascii() and text.isdigit()):
        raise InputError(f"{name}={text}: expected a whole number; start the command with torchrun")
    return int(text)


def _require_in_environment(name: str, default: str | None = None) -> str:
    text = os.environ.get(name, default)
    if text is None:
        raise InputError(
            f"{name}: not set although WORLD_SIZE is; start the command with torchrun, or unset "
            "WORLD_SIZE to run one process"
        )
    return text

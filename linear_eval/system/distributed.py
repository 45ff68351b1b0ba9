"""Rank, world size and gathers; one process needs no special case.

Shapes: N rows of this process, W processes.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch

from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

TIMEOUT = timedelta(minutes=30)


def is_distributed() -> bool:
    """Whether a process group is up."""
    if "torch.distributed" not in sys.modules:
        return False  # and torch need not be loaded to know
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def rank() -> int:
    """Number of this process, 0 without a process group."""
    return torch.distributed.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return torch.distributed.get_world_size() if is_distributed() else 1


def local_world_size() -> int:
    """Number of processes that torchrun started on this machine, 1 without it."""
    return max(1, _number_from_environment("LOCAL_WORLD_SIZE", default="1"))


def is_main() -> bool:
    """Whether this process is the one that writes files and logs."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process is here."""
    if is_distributed():
        torch.distributed.barrier()


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
    torch.distributed.all_gather(gathered, rows)
    return torch.cat(gathered)


def rows_for_main(x: Tensor) -> Tensor:
    """The rows of all processes on the CPU of the main one, in rank order; elsewhere its own.

    With one process `x` itself, where it is.

    Args:
        x: (N, ...); every process must hold the same shape, and calls it at once.
    """
    if world_size() == 1:
        return x
    rows = x.detach().contiguous()
    parts = [torch.empty_like(rows) for _ in range(world_size())] if is_main() else None
    torch.distributed.gather(rows, parts)
    return x if parts is None else torch.cat([part.cpu() for part in parts])


def broadcast_from_main(x: Tensor) -> Tensor:
    """Overwrite `x`, of the same shape in every process, with that of the main process."""
    if world_size() > 1:
        torch.distributed.broadcast(x, src=0)
    return x


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
        _init("nccl", TIMEOUT, device_id=gpu)


def join_gloo(timeout: timedelta) -> None:
    """Join the group that torchrun describes, if it started us; it sends tensors of the CPU.

    Args:
        timeout: how long a process waits for the others.

    Raises:
        InputError: the environment describes a group only in part.
    """
    if _is_described():
        _init("gloo", timeout)


def connection(timeout: timedelta, *, hosts: bool = False) -> Any:
    """A new connection to the store in which processes find each other.

    Its keys are those of this attempt: after a restart (`torchrun --max-restarts`) the same store
    still holds the addresses of dead processes.

    Args:
        timeout: of each question to it.
        hosts: whether this process is the first to connect; where torchrun keeps no store, process
            0 then does.

    Returns:
        A `torch.distributed.Store`.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    is_kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    kinds: Any = torch.distributed  # names them without exporting them
    store = kinds.TCPStore(
        os.environ["MASTER_ADDR"],
        _number_from_environment("MASTER_PORT"),
        is_master=hosts and not is_kept and _number_from_environment("RANK") == 0,
        timeout=timeout,
        multi_tenant=True,
    )
    return kinds.PrefixStore(f"attempt_{attempt}", store)


def _init(backend: str, timeout: timedelta, **more: Any) -> None:
    torch.distributed.init_process_group(
        backend,
        store=connection(timeout, hosts=True),
        rank=_number_from_environment("RANK"),
        world_size=_number_from_environment("WORLD_SIZE"),
        timeout=timeout,
        **more,
    )


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
        torch.distributed.destroy_process_group()


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

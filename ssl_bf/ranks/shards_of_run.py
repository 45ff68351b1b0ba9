"""Into how many shards a run cuts its batches, and what follows for its processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linear_eval.system.distributed import world_size
from linear_eval.system.errors import InputError
from ssl_bf.config import PretrainConfig
from ssl_bf.shards.turns import HeldShards


def saved_shards(state: Mapping[str, Any]) -> int:
    """Of the checkpoint of a run; in earlier versions a process was a shard."""
    return int(state.get("shards", state["world_size"]))


def shards_of(config: PretrainConfig, begun: Mapping[str, Any] | None = None) -> HeldShards:
    """The shards that this process holds.

    Args:
        config: of the run.
        begun: state of the checkpoint of a run that goes on; `auto` means its number then.

    Raises:
        InputError: the processes cannot share them, or they the batch.
    """
    auto = world_size() if begun is None else saved_shards(begun)
    count = auto if config.shards == "auto" else config.shards
    if count % world_size():
        fitting = [n for n in range(1, count + 1) if count % n == 0]
        raise InputError(
            f"shards: {count} cannot be shared by {world_size()} processes; start torchrun with "
            f"--nproc-per-node {' or '.join(map(str, fitting))}"
            + (", or set shards to a multiple of their number" if begun is None else "")
        )
    if config.batch_size % count:
        what = "devices" if count == world_size() else "shards"
        raise InputError(f"batch_size: {config.batch_size} is not divisible by {count} {what}")
    return HeldShards(count)


def check_shards(config: PretrainConfig, shards: HeldShards) -> None:
    """Refuse what needs one shard in each process, added by the framework, or one shard in all.

    Raises:
        InputError: naming the key.
    """
    speed = config.speed
    is_plain = shards.held == 1 and speed.reduction == "fast"
    for is_asked, key in ((speed.cuda_graph, "cuda_graph"), (speed.compile, "compile")):
        if is_asked and not is_plain:
            raise InputError(
                f"speed.{key}: needs one shard in each process and speed.reduction=fast, and this "
                f"run has {shards.held} and {speed.reduction}; set speed.{key}=false"
            )
    if config.run.capture_step is not None and speed.cuda_graph:
        raise InputError(
            "run.capture_step: a CUDA graph cannot be repeated, expected speed.cuda_graph=false; "
            "set it, or leave run.capture_step out"
        )


def shards_note(
    config: PretrainConfig, shards: HeldShards, begun: Mapping[str, Any] | None = None
) -> list[str]:
    """A log line on what the number of processes changes, where it is not that of the shards.

    Args:
        config: of the run.
        shards: those of this process.
        begun: state of the checkpoint of a run that goes on.
    """
    is_ordered = config.speed.reduction == "ordered"
    before = world_size() if begun is None else begun["world_size"]
    if shards.held == 1 and not is_ordered and before == world_size():
        return []
    changed = "" if before == world_size() else f", {before} process(es) before"
    same = "every bit stays" if is_ordered else "the loss stays, up to rounding,"
    return [
        f"{shards.count} shards of the batch, {shards.held} in each process{changed}: {same} the "
        f"same on any number of processes that divides {shards.count} (speed.reduction="
        f"{config.speed.reduction})"
    ]

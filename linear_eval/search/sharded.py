"""Exact nearest neighbours in a gallery whose rows are spread over processes.

Shapes: Q queries, G gallery rows of all processes, D feature width, k neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from linear_eval.features.rows import Metric
from linear_eval.search.exact import Backend, nearest_neighbours
from linear_eval.search.similarity_keys import best_keys, decode_keys, similarity_keys
from linear_eval.system.agreement import agreed, own_share
from linear_eval.system.distributed import all_gather_rows, rank, world_size
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def nearest_neighbours_by_all(
    queries: Tensor,
    gallery: Tensor | Sequence[Tensor],
    k: int,
    *,
    metric: Metric = "inner",
    backend: Backend = "auto",
    memory_mib: int = 512,
    exclude_self: bool = False,
) -> tuple[Tensor, Tensor]:
    """`nearest_neighbours` in a gallery that every process can read: each searches its share.

    Arguments, results and errors are those of `nearest_neighbours`, in every process. With
    `exclude_self` each searches everything: no shard has the rows of all queries.
    """
    if exclude_self or world_size() == 1:
        return nearest_neighbours(
            queries,
            gallery,
            k,
            metric=metric,
            backend=backend,
            memory_mib=memory_mib,
            exclude_self=exclude_self,
        )
    parts = [gallery] if isinstance(gallery, torch.Tensor) else list(gallery)
    own, first, shard = own_share(sum(len(part) for part in parts)), 0, []
    for part in parts:
        shard.append(part[max(0, own.start - first) : max(0, own.stop - first)])
        first += len(part)
    return nearest_neighbours_sharded(
        queries, shard, k, metric=metric, backend=backend, memory_mib=memory_mib
    )


def nearest_neighbours_sharded(
    queries: Tensor,
    shard: Tensor | Sequence[Tensor],
    k: int,
    *,
    metric: Metric = "inner",
    backend: Backend = "auto",
    memory_mib: int = 512,
) -> tuple[Tensor, Tensor]:
    """What `nearest_neighbours` finds in the shards of all processes, one below the other by rank.

    Every process searches its own shard; the k best of each are gathered and merged. For one
    process it is `nearest_neighbours`.

    Args:
        queries: (Q, D), the same in every process.
        shard: this process's rows of the gallery, one table or several; shards may differ in size.
        k: 1 <= k <= G, the same in every process; a shard may hold fewer.
        metric: as in `nearest_neighbours`.
        backend: likewise.
        memory_mib: likewise, for each process.

    Returns:
        Similarities (Q, k) float32 and rows (Q, k) int64 of the whole gallery, in every process.

    Raises:
        InputError: in every process: k is out of range, a shard is empty, or what
            `nearest_neighbours` refuses in one of them.
    """
    parts = [shard] if isinstance(shard, torch.Tensor) else list(shard)
    size = sum(len(part) for part in parts)
    sizes = all_gather_rows(torch.tensor([size])).tolist()
    if min(sizes) == 0:
        raise InputError(
            f"shard: that of process {sizes.index(0)} of {world_size()} is empty, expected rows in "
            "each; start fewer processes"
        )
    if not 1 <= k <= sum(sizes):
        raise InputError(
            f"k: {k} neighbours asked for among {sum(sizes)} rows, expected 1 to {sum(sizes)}; "
            "choose a smaller k or a larger gallery"
        )
    similarity, index = agreed(
        lambda: nearest_neighbours(
            queries,
            parts,
            min(k, size),
            metric=metric,
            backend=backend,
            memory_mib=memory_mib,
        )
    )
    index += sum(sizes[: rank()])
    keys = similarity_keys(similarity, index, torch.zeros_like(index, dtype=torch.bool)).cpu()
    padded = torch.full_like(keys[:, :1], torch.iinfo(keys.dtype).max).repeat(1, k)
    padded[:, : keys.shape[1]] = keys
    gathered = all_gather_rows(padded).view(world_size(), *padded.shape)
    best = best_keys(gathered.transpose(0, 1).flatten(1).to(queries.device), k)
    return decode_keys(best)

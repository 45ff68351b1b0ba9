"""Exact nearest neighbours in a gallery whose rows are spread over processes.

Shapes: Q queries, G gallery rows of all processes, D feature width, k neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from linear_eval.distributed import all_gather_rows, rank, world_size
from linear_eval.errors import InputError
from linear_eval.feature_rows import Metric
from linear_eval.search import Backend, nearest_neighbours
from linear_eval.similarity_keys import best_keys, decode_keys, similarity_keys


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
        InputError: in every process: k is out of range, or a shard is empty. In the process
            concerned: what `nearest_neighbours` refuses.
    """
    parts = [shard] if isinstance(shard, Tensor) else list(shard)
    size = sum(len(part) for part in parts)
    sizes = all_gather_rows(torch.tensor([size], device=queries.device)).tolist()
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
    similarity, index = nearest_neighbours(
        queries,
        parts,
        min(k, size),
        metric=metric,
        backend=backend,
        memory_mib=memory_mib,
    )
    index += sum(sizes[: rank()])
    keys = similarity_keys(similarity, index, torch.zeros_like(index, dtype=torch.bool))
    padded = torch.full_like(keys[:, :1], torch.iinfo(keys.dtype).max).repeat(1, k)
    padded[:, : keys.shape[1]] = keys
    gathered = all_gather_rows(padded).view(world_size(), *padded.shape)
    return decode_keys(best_keys(gathered.transpose(0, 1).flatten(1), k))

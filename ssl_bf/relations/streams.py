"""The stream axis: how plain and related features travel together to the loss.

A stream is one version of the batch's features. Stream 0 is always the plain features, stream 1
(when there is one) the related ones. Shapes: S streams, N local batch, D and P widths.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ssl_bf.layers.batch_norm import frozen_running_statistics

Pairs = (
    Literal["plain_keys", "all", "matched", "plain_queries", "related"]
    | tuple[tuple[float, ...], ...]
)

# Rows: query stream (plain, related). Columns: key stream (plain, related).
PAIR_WEIGHTS: dict[str, tuple[tuple[float, ...], ...]] = {
    "plain_keys": ((1.0, 0.0), (1.0, 0.0)),
    "all": ((1.0, 1.0), (1.0, 1.0)),
    "matched": ((1.0, 0.0), (0.0, 1.0)),
    "plain_queries": ((1.0, 1.0), (0.0, 0.0)),
    "related": ((0.0, 0.0), (0.0, 1.0)),
}


@dataclass(frozen=True, kw_only=True)
class StreamRules:
    """Where the relation sits and which (query stream, key stream) pairs make the loss."""

    # projection: on the projector's output; backbone: before the projector, as published
    insert_at: Literal["projection", "backbone"] = "projection"
    # (query stream, key stream) pairs that make the loss, or weights [[oo, ob], [bo, bb]]
    pairs: Pairs = "plain_keys"
    reduction: Literal["mean", "sum"] = "mean"  # sum: the published MoCo-v3 + BatchFormer
    # joint: following heads normalise both streams together; split: each by itself
    batch_norm: Literal["joint", "split"] = "joint"

    def __post_init__(self) -> None:
        """Refuse weights that are no 2 x 2 table or name no pair at all."""
        weights = self.weights
        if len(weights) != 2 or any(len(row) != 2 for row in weights):
            raise ValueError(f"pairs: expected [[w_oo, w_ob], [w_bo, w_bb]], got {weights}")
        if min(map(min, weights)) < 0 or max(map(max, weights)) <= 0:
            raise ValueError(f"pairs: weights must be >= 0 and one of them > 0, got {weights}")

    @property
    def weights(self) -> tuple[tuple[float, ...], ...]:
        """Weight of each (query stream, key stream) pair, 2 x 2."""
        return PAIR_WEIGHTS[self.pairs] if isinstance(self.pairs, str) else self.pairs

    @property
    def relates_queries(self) -> bool:
        """Whether any pair uses the related query stream."""
        return max(self.weights[1]) > 0

    @property
    def relates_keys(self) -> bool:
        """Whether any pair uses the related key stream."""
        return max(row[1] for row in self.weights) > 0


def per_row(head: nn.Module, streams: Tensor, batch_norm: Literal["joint", "split"]) -> Tensor:
    """Apply a head to every row of every stream, (S, N, D) -> (S, N, P).

    Args:
        head: maps (rows, D) to (rows, P).
        streams: (S, N, D).
        batch_norm: `joint`: BatchNorm inside the head normalises all S * N rows (published).
            `split`: each stream by itself with shared affine parameters; the running statistics
            are those of stream 0, the only one that exists in evaluation.
    """
    if batch_norm == "joint" or len(streams) == 1:
        # Image by image, so that each part of `groups:G` has all streams of its images.
        rows: Tensor = head(streams.transpose(0, 1).flatten(0, 1))
        return rows.reshape(streams.shape[1], len(streams), -1).transpose(0, 1)
    plain = head(streams[0])
    with frozen_running_statistics(head):
        return torch.stack([plain, *(head(stream) for stream in streams[1:])])


def project_and_relate(
    features: Tensor,
    projector: nn.Module,
    relate: Callable[[Tensor], Tensor],
    rules: StreamRules,
) -> Tensor:
    """Backbone features (N, D) to projection streams (S, N, P), the relation in its place.

    `insert_at: backbone` is relation, then projector (the paper's code); `projection` the reverse.
    From a relation inside the backbone the features come as streams already, (S, N, D).
    """
    if rules.insert_at == "projection":
        return relate(projector(features))
    return per_row(projector, relate(features), rules.batch_norm)


def mean_over_stream_pairs(
    loss: Callable[..., Tensor],
    queries: Tensor,
    keys: Tensor,
    rules: StreamRules,
    *of_key_stream: Sequence[Any],
) -> Tensor:
    """Weighted mean of a loss over pairs of streams.

    Args:
        loss: takes queries (A, N, P), one key stream (N, P) and what `of_key_stream` holds for it;
            returns (A,). It is asked once per key stream, for all query streams that pair with it.
        queries: (S_q, N, P). A stream that is absent (relation off, evaluation) drops its pairs.
        keys: (S_k, N, P).
        rules: weights and reduction; `sum` skips the division by the sum of weights.
        of_key_stream: further arguments of the loss, each S_k long (negatives, for instance).

    Returns:
        Scalar. With one stream on both sides it is that loss itself.
    """
    if len(queries) == len(keys) == 1:
        return loss(queries, keys[0], *(each[0] for each in of_key_stream))[0]
    terms: list[Tensor] = []
    total_weight = 0.0
    for c, key in enumerate(keys):
        used = [a for a in range(len(queries)) if rules.weights[a][c] > 0]
        if not used:
            continue
        chosen = queries if len(used) == len(queries) else torch.stack([queries[a] for a in used])
        values = loss(chosen, key, *(each[c] for each in of_key_stream))
        for a, value in zip(used, values.unbind(), strict=True):
            terms.append(rules.weights[a][c] * value)
            total_weight += rules.weights[a][c]
    assert terms, f"no pair of {len(queries)} x {len(keys)} streams in {rules.weights}"
    total = torch.stack(terms).sum()
    return total if rules.reduction == "sum" else total / total_weight

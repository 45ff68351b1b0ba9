"""Where queries and keys of a step lie: rank, uniformity, alignment, logits.

Each function reads from the device once, looks at 256 rows at most where its cost grows faster than
their number, and gives NaN where the rows are not finite. Shapes: N local batch, S streams, P
projection width, M negatives.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ssl_bf.losses.unit_length import unit_length
from ssl_bf.methods.measurements import feature_std

ROWS = 256  # the Gram matrix of so many rows costs milliseconds
_EPSILON = 1e-7


class Observed(NamedTuple):
    """What one direction of the loss compared on this device, detached."""

    queries: Tensor  # (S, N, P) any length
    keys: Tensor  # (S', N, P) of the same images, any length; stream 0 is plain
    image_ids: Tensor  # (N,) int64

    def measurements(self, temperature: float) -> dict[str, float]:
        """Of each query stream: its spread; alignment and logits against the batch's plain keys.

        `query_std/stream_s` is `feature_std` of the queries. Where projections end in BatchNorm, as
        SimSiam's, they look spread after a collapse, because it amplifies what is left of them.
        """
        keys = self.keys[0]
        deviation = feature_std(self.queries).items()
        spreads = {name.replace("feature", "query"): value for name, value in deviation}
        return spreads | alignment(self.queries, keys) | logits(self.queries, keys, temperature)


@torch.no_grad()
def spread(projections: Tensor) -> dict[str, float]:
    """`effective_rank/stream_s` and `uniformity/stream_s` of the first rows (S, N, P).

    The rank is RankMe of unit-length rows, about how many directions they fill evenly: from 1,
    collapsed, to min(256, N, P). Uniformity is the log of the mean of exp(-2 distance ** 2) over
    pairs of rows: from 0, collapsed, to about -4.

    Source: Garrido et al. 2023, eq. 1 (arXiv 2210.02885); Wang and Isola 2020 (arXiv 2005.10242).
    Differs: RankMe takes 25,600 rows of any length.
    """
    rows = unit_length(projections[:, :ROWS]).double()
    gram = (rows @ rows.transpose(1, 2)).cpu()  # (S, N, N): cosines; small, and faster there
    count = gram.shape[1]
    values = {}
    for s, cosines in enumerate(gram):
        if not bool(cosines.isfinite().all()):
            values[f"effective_rank/stream_{s}"] = values[f"uniformity/stream_{s}"] = torch.nan
            continue
        singular = torch.linalg.eigvalsh(cosines).clamp(min=0).sqrt()
        share = singular / singular.sum() + _EPSILON
        values[f"effective_rank/stream_{s}"] = float((-(share * share.log()).sum()).exp())
        near = (4 * cosines - 4).exp()  # exp(-2 |a - b|^2), since |a - b|^2 = 2 - 2 cosine
        mean = (near.sum() - near.trace()) / (count * (count - 1))
        values[f"uniformity/stream_{s}"] = float(mean.log())
    return values


@torch.no_grad()
def alignment(queries: Tensor, keys: Tensor) -> dict[str, float]:
    """`alignment/stream_s`: mean squared distance of each query stream to its own plain keys.

    From 0, the views of an image look alike, to 4.

    Args:
        queries: (S, N, P), any length.
        keys: (N, P), any length; row i belongs to query i.

    Source: Wang and Isola 2020 (arXiv 2005.10242), alpha 2.
    """
    cosines = (unit_length(queries) * unit_length(keys)).sum(dim=2).mean(dim=1)
    return _of_streams("alignment", 2 - 2 * cosines)


@torch.no_grad()
def logits(
    queries: Tensor, keys: Tensor, temperature: float, negatives: Tensor | None = None
) -> dict[str, float]:
    """`positive_logit/stream_s` and, with negatives, `negative_logit/stream_s`: means.

    Args:
        queries: (S, N, P), any length.
        keys: (N, P), any length; row i belongs to query i.
        temperature: divides the cosines, as in the loss.
        negatives: (M, P), M >= 1; None: the keys of the batch's other images, where N >= 2.
    """
    queries, keys = unit_length(queries), unit_length(keys)
    positive = (queries * keys).sum(dim=2).mean(dim=1)
    if negatives is None:  # the mean over pairs i != j, from sums
        count = len(keys)
        total = queries.sum(dim=1) @ keys.sum(dim=0).to(queries.dtype)
        negative = (total - positive * count) / (count * (count - 1))
    else:  # the mean of products is the product of means
        negative = queries.mean(dim=1) @ negatives.to(queries.dtype).mean(dim=0)
    of_both = torch.cat([positive, negative]) / temperature
    own, others = of_both.cpu().split(len(queries))
    return _of_streams("positive_logit", own) | _of_streams("negative_logit", others)


def _of_streams(name: str, values: Tensor) -> dict[str, float]:
    return {f"{name}/stream_{s}": value for s, value in enumerate(values.tolist())}

"""Quality of features without labels: rank, alignment and uniformity.

Shapes: M images, D feature width.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from linear_eval.features.rows import require_finite, unit_rows
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_EPSILON = 1e-7
_AT_ONCE = 2**22  # entries of a chunk: 16 MiB of float32


def rank_me(features: Tensor) -> float:
    """RankMe: the exponential of the entropy of the normalised singular values.

    Args:
        features: (M, D), neither centred nor of length 1.

    Returns:
        About how many directions the features fill evenly: from 1 to min(M, D).

    Raises:
        InputError: fewer than two images, a feature that is not finite, or all of them zero.

    Source: Garrido et al. 2023, eq. 1 (arXiv 2210.02885): p = s / sum(s) + 1e-7, exp(-sum p log p).
    """
    _require_images(features)
    largest = float(features.abs().max())
    if largest == 0:
        raise InputError("features: all are zero, expected a backbone that tells images apart")
    count, width = features.shape
    # the smaller of the two Gram matrices has the squared singular values, min(M, D) of them
    if count <= width:
        rows = features.double() / largest
        gram = rows @ rows.T
    else:
        gram = torch.zeros(width, width, dtype=torch.float64, device=features.device)
        for chunk in features.split(max(1, _AT_ONCE // width)):
            rows = chunk.double() / largest
            gram.addmm_(rows.T, rows)
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    share = singular / singular.sum() + _EPSILON
    return math.exp(-float((share * share.log()).sum()))


def alignment(first: Tensor, second: Tensor, alpha: float = 2.0) -> float:
    """How far apart two views of an image are: mean distance of the unit features ** alpha.

    Args:
        first: (M, D), any length; a zero feature stays zero.
        second: (M, D), row i is another view of the image of row i in `first`.
        alpha: > 0.

    Returns:
        From 0, the views of an image look alike, to 2 ** alpha.

    Raises:
        InputError: fewer than two images, or a feature is not finite.

    Source: Wang and Isola 2020 (arXiv 2005.10242), alpha 2.
    """
    assert first.shape == second.shape, (first.shape, second.shape)
    _require_images(first)
    _require_images(second)
    distance = (unit_rows(first) - unit_rows(second)).norm(dim=1)
    return float(distance.double().pow(alpha).mean())


def uniformity(features: Tensor, t: float = 2.0) -> float:
    """How evenly features lie on the sphere: log of the mean of exp(-t * distance ** 2) over pairs.

    The M * (M - 1) / 2 pairs are visited in chunks; the memory grows with M * D alone.

    Args:
        features: (M, D), any length; a zero feature stays zero.
        t: > 0.

    Returns:
        From 0, all features point one way, to -2 * t * M / (M - 1) at best: about -4 at t = 2.

    Raises:
        InputError: fewer than two images, or a feature is not finite.

    Source: Wang and Isola 2020 (arXiv 2005.10242), t 2.
    """
    _require_images(features)
    unit = unit_rows(features)
    count = len(unit)
    at_once = max(1, _AT_ONCE // count)
    total = torch.zeros((), dtype=torch.float64, device=features.device)
    lengths = unit.square().sum(dim=1)  # 1, but 0 of a zero feature
    for start in range(0, count, at_once):
        chunk = slice(start, start + at_once)
        similarity = unit[chunk] @ unit[start:].T
        squared = (lengths[chunk, None] + lengths[start:] - 2 * similarity).clamp(min=0)
        # row i of the chunk is image start + i; only pairs with later images are new
        total += (-t * squared).exp().triu(diagonal=1).sum(dtype=torch.float64)
    return math.log(float(total) / (count * (count - 1) / 2))


def _require_images(features: Tensor) -> None:
    if len(features) < 2:
        raise InputError(
            f"data: {len(features)} images, expected two or more to compare; give more images"
        )
    require_finite(features, "features")

"""Negative cosine similarity, the loss of SimSiam."""

import torch
from torch import Tensor

from ssl_bf.losses.unit_length import unit_length


def negative_cosine(predictions: Tensor, target: Tensor) -> Tensor:
    """Mean of -cos(prediction, target) over rows, in [-1, 1].

    Args:
        predictions: (A, N, P) or (N, P), any length. The gradient flows here only.
        target: (N, P), any length; detached here (SimSiam's stop-gradient).

    Returns:
        (A,), or a scalar for (N, P).

    Source: Chen & He 2021, eq. 1 and 3 (arXiv 2011.10566).
    """
    with torch.autocast(predictions.device.type, enabled=False):
        cosine = (unit_length(predictions) * unit_length(target.detach())).sum(dim=-1)
        return -cosine.mean(dim=-1)

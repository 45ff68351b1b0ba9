"""Projectors and predictors: multi-layer perceptrons from a list of widths."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import nn

LastNorm = Literal["none", "affine_free"]


def mlp_head(
    widths: Sequence[int],
    *,
    batch_norm: bool,
    hidden_bias: bool,
    last_bias: bool,
    last_batch_norm: LastNorm = "none",
) -> nn.Sequential:
    """Linear [- BatchNorm] - ReLU per hidden layer, then Linear [- BatchNorm without affine].

    The positions inside the Sequential equal those of the published heads, so their weights load
    by name (MoCo-v2 `fc.0, fc.2`; MoCo-v3 `fc.0 .. fc.4`; SimSiam `fc.0 .. fc.7`).

    Args:
        widths: input, hidden ..., output width; at least two.
        batch_norm: BatchNorm after every hidden Linear.
        hidden_bias: bias in the hidden Linears.
        last_bias: bias in the last Linear.
        last_batch_norm: `affine_free` ends the head with BatchNorm without scale and shift.

    Returns:
        Maps (N, widths[0]) to (N, widths[-1]).
    """
    assert len(widths) >= 2, widths
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths[:-1]):
        layers.append(nn.Linear(width_in, width_out, bias=hidden_bias))
        if batch_norm:
            layers.append(nn.BatchNorm1d(width_out))
        layers.append(nn.ReLU(inplace=True))
    layers.append(nn.Linear(widths[-2], widths[-1], bias=last_bias))
    if last_batch_norm == "affine_free":
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    return nn.Sequential(*layers)

"""L2 normalisation that never runs below float32."""

import torch
from torch import Tensor
from torch.nn import functional


def full_precision(x: Tensor) -> Tensor:
    """Return `x` in float32, or in float64 when it already is: similarities need the digits."""
    return x if x.dtype == torch.float64 else x.float()


def unit_length(x: Tensor) -> Tensor:
    """Scale the last axis to length one.

    Args:
        x: (..., P), any floating type.

    Returns:
        (..., P) in float32, or float64 for float64 input. A zero vector stays zero.
    """
    return functional.normalize(full_precision(x), dim=-1)

"""Rows of a batch in groups that see each other.

Shapes: N local batch, g rows per group, D width.
"""

import torch
from torch import Tensor

from linear_eval.system.errors import InputError


def check_group(context: int | str) -> None:
    """Refuse a group in which no row has company.

    Raises:
        ValueError: the message begins with the key.
    """
    if isinstance(context, int) and context < 2:
        raise ValueError(f"context: a group needs at least 2 rows, got {context}")


def check_heads(heads: int, width: int) -> None:
    """Refuse heads that cannot share the width.

    Raises:
        InputError: naming both.
    """
    if width % heads:
        raise InputError(
            f"relation.heads: {heads} heads do not divide the width {width}; choose a divisor of it"
        )


def deal(features: Tensor, order: Tensor | None, context: int | str) -> Tensor:
    """(N, D) -> sequences (N / g, g, D) of the rows in this order; g is N unless a number."""
    rows = features if order is None else features.index_select(0, order)
    group = context if isinstance(context, int) else len(rows)
    return rows.reshape(-1, group, rows.shape[1])


def collect(sequences: Tensor, order: Tensor | None) -> Tensor:
    """(N / g, g, D) -> (N, D), each row back in its place."""
    related = sequences.flatten(0, 1)
    if order is None:
        return related
    return torch.empty_like(related).index_copy(0, order, related)

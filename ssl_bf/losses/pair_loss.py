"""The pair loss of BGFormer's authors: tell the other image of a class from those of other classes.

Shapes: S streams, N batch, P projection width.
"""

import torch
from torch import Tensor

from ssl_bf.losses.unit_length import unit_length

MIN_TEMPERATURE = 0.03  # below it, exp of a similarity may leave float32


def pair_loss(rows: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy over all ordered pairs of one class.

    The first image of each class in the batch stands in slot 0, the second in slot 1, and so on.
    A pair (i, j) of slots a and b is told apart from what stands in these two slots: the candidates
    are j, the rows of other classes in slot b, and those in slot a. (In a batch of n classes with m
    images each, that is n x 2n similarities for each of m (m - 1) pairs of slots, the row itself
    excluded.)

    Args:
        rows: (S, N, P) or (N, P), any length; normalised here.
        labels: (N,) int64.
        temperature: >= `MIN_TEMPERATURE`; cosine similarities are divided by it.

    Returns:
        (S,), or a scalar for (N, P): in nats, float32 or wider; 0 where no two rows are of a class.

    Source: SissiW/DyBGR 819a54f, train.py; before it htdt/hyp_metric.
    Differs: the mean over all pairs, not the sum over pairs of slots; cosine, not the distance in
    hyperbolic space.
    """
    with torch.autocast(rows.device.type, enabled=False):
        unit = unit_length(rows)
        similar = unit @ unit.transpose(-1, -2) / temperature  # (S, N, N)
        same = labels[:, None] == labels
        own = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        slot = same.tril(-1).sum(dim=1)
        stands_in = (slot[:, None] == torch.arange(len(labels), device=labels.device)).to(unit)
        # relative to the largest possible, so that exp stays within range
        exponentials = (similar - 1 / temperature).exp().masked_fill(own, 0)
        in_slot = exponentials @ stands_in  # (S, N, N): sums over the rows of each slot
        of_b = in_slot[..., slot]  # (S, N, N): entry (i, j) is about j's slot
        of_a = of_b.diagonal(dim1=-2, dim2=-1)[..., None]  # about i's own
        # another pair in one slot cannot be: two rows of a class stand in different ones
        pairs = same & ~own
        total = (of_a + of_b).masked_fill(~pairs, 1.0)
        terms = (total.log() + 1 / temperature - similar) * pairs
        return terms.sum(dim=(-2, -1)) / pairs.sum().clamp(min=1)

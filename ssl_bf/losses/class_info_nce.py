"""InfoNCE over class positives: the other images of a class against all rows of the batch.

Shapes: S streams, N batch, P projection width.
"""

import torch
from torch import Tensor

from ssl_bf.losses.unit_length import unit_length


def class_info_nce(rows: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Mean over rows of the mean over their positives of a cross-entropy.

    Of row i and another row j of its class: -log(exp(s_ij) / sum over k != i of exp(s_ik)), with s
    the cosine over the temperature. Rows without a positive do not count.

    Args:
        rows: (S, N, P) or (N, P), any length; normalised here.
        labels: (N,) int64.
        temperature: > 0.

    Returns:
        (S,), or a scalar for (N, P): in nats, float32 or wider; 0 where no two rows are of a class.

    Source: Khosla et al. 2020, eq. 2, L_out (arXiv 2004.11362).
    """
    with torch.autocast(rows.device.type, enabled=False):
        unit = unit_length(rows)
        similar = unit @ unit.transpose(-1, -2) / temperature  # (S, N, N)
        own = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        positive = (labels[:, None] == labels) & ~own
        total = similar.masked_fill(own, -torch.inf).logsumexp(dim=-1, keepdim=True)
        count = positive.sum(dim=1)  # (N,)
        of_row = ((total - similar) * positive).sum(dim=-1) / count.clamp(min=1)
        return of_row.sum(dim=-1) / (count > 0).sum().clamp(min=1)

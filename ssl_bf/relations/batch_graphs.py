"""Which rows of a batch belong together: by labels, or a teacher's neighbours or clusters.

Shapes: N local batch, W devices, B groups of g rows, D width, C clusters.
"""

import torch
from torch import Tensor

from ssl_bf.losses.unit_length import unit_length
from ssl_bf.parts.gathered_keys import own_keys
from ssl_bf.relations.surroundings import Beside, Samples, Side, Surroundings
from ssl_bf.shards.shard import all_gather_rows

SHARPNESS = 20.0  # of the assignment to clusters, per unit of cosine
BALANCING = 3  # rounds of Sinkhorn's algorithm
KEPT = 0.9  # of a centre, when it moves


def normalised(edges: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """D^-1/2 (E + I) D^-1/2 of edges E (B, g, g), bool and symmetric.

    It is symmetric; its rows sum to 1 where the edges are those of disjoint classes.
    """
    weights = edges.to(dtype) + torch.eye(edges.shape[-1], dtype=dtype, device=edges.device)
    scale = weights.sum(dim=-1).rsqrt()
    return scale[..., :, None] * weights * scale[..., None, :]


def edges_between_equals(labels: Tensor) -> Tensor:
    """Labels (B, g) to edges (B, g, g), bool: rows of one label, a row and itself included."""
    return labels[..., :, None] == labels[..., None, :]


def edges_to_nearest(rows: Tensor, count: int) -> Tensor:
    """Rows (B, g, D) to edges (B, g, g), bool.

    Between two rows, of which one is among the `count` others that are most similar to the other;
    and of a row to itself, as between equal labels.
    """
    unit = unit_length(rows)
    similar = unit @ unit.transpose(1, 2)
    own = torch.eye(rows.shape[1], dtype=torch.bool, device=rows.device)
    nearest = similar.masked_fill(own, -torch.inf).topk(min(count, rows.shape[1] - 1), dim=2)
    edges = torch.zeros_like(similar, dtype=torch.bool).scatter(2, nearest.indices, True)
    return edges | edges.transpose(1, 2) | own


class Teacher(Surroundings):
    """Slow plain features of the same view; of the trained network itself where it has no copy."""

    def __init__(self, *, has_key_side: bool) -> None:
        """Hold nothing between steps."""
        super().__init__()
        self.has_key_side = has_key_side
        self.needs_slow_queries = has_key_side
        self.noted: dict[int, Tensor] = {}  # by view

    def observe(self, features: Tensor, samples: Samples, side: Side, view: int) -> None:
        """Note what the key side, where there is one, makes of a view."""
        del samples
        if side == "key" or not self.has_key_side:
            self.noted[view] = features.detach()

    def beside(self, features: Tensor, samples: Samples, side: Side, view: int) -> Beside:
        """The rows (N, D) of the teacher for the same images and view."""
        del samples
        rows = features.detach() if side == "key" else self.noted[view]
        return Beside(rows, torch.ones(len(rows), dtype=torch.bool, device=rows.device))

    def after_step(self) -> None:
        """Forget the step."""
        self.noted.clear()


class Clusters(Teacher):
    """Pseudo-labels: each row's nearest of C centres, which follow the teacher's features.

    A batch is shared among the centres about equally (Sinkhorn), or a few would attract all rows.
    Buffer `centres` (C, D), unit length, random at the start.
    """

    centres: Tensor

    def __init__(self, width: int, count: int, *, has_key_side: bool) -> None:
        """Draw the centres from torch's global generator (the caller seeds)."""
        super().__init__(has_key_side=has_key_side)
        self.register_buffer("centres", unit_length(torch.randn(count, width)))

    def beside(self, features: Tensor, samples: Samples, side: Side, view: int) -> Beside:
        """The labels (N, 1) of the teacher's rows, balanced over those of all devices."""
        teacher = super().beside(features, samples, side, view)
        labels = self.labels(all_gather_rows(teacher.rows))[own_keys(len(teacher.rows))]
        return teacher._replace(rows=labels[:, None])

    def labels(self, rows: Tensor) -> Tensor:
        """(N, D) -> (N,) int64 in [0, C)."""
        shares = (SHARPNESS * unit_length(rows) @ self.centres.T).softmax(dim=1)
        for _ in range(BALANCING):
            shares = shares / shares.sum(dim=0, keepdim=True)
            shares = shares / shares.sum(dim=1, keepdim=True)
        return shares.argmax(dim=1)

    @torch.no_grad()
    def after_step(self) -> None:
        """Move each centre towards the mean of its rows of the last view, on all devices."""
        if self.noted:
            rows = unit_length(all_gather_rows(list(self.noted.values())[-1]))
            rows = rows.to(self.centres.dtype)
            labels = self.labels(rows)
            sums = torch.zeros_like(self.centres).index_add_(0, labels, rows)
            has_rows = (sums != 0).any(dim=1, keepdim=True)
            moved = unit_length(KEPT * self.centres + (1 - KEPT) * unit_length(sums))
            self.centres.copy_(torch.where(has_rows, moved, self.centres))
        super().after_step()


class Labels(Surroundings):
    """The labels of the batch, for methods that have them; nothing is kept between steps."""

    needs_labels = True

    def observe(self, features: Tensor, samples: Samples, side: Side, view: int) -> None:
        """Nothing to note."""

    def beside(self, features: Tensor, samples: Samples, side: Side, view: int) -> Beside:
        """The labels (N, 1) of the rows."""
        del features, side, view
        assert samples.labels is not None, "a method without labels was not refused"
        rows = samples.labels[:, None]
        return Beside(rows, torch.ones(len(rows), dtype=torch.bool, device=rows.device))

    def after_step(self) -> None:
        """Nothing to forget."""

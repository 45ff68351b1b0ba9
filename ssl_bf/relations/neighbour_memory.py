"""A memory of recent slow features, and the nearest of them to each row.

Source: the support set of Dwibedi et al. 2021 (arXiv 2104.14548). Shapes: N local batch, W devices,
M rows of the memory, m neighbours, D width.
"""

import torch
from torch import Tensor

from linear_eval.system.errors import InputError
from ssl_bf.losses.unit_length import full_precision, unit_length
from ssl_bf.parts.key_queue import NO_IMAGE, KeyQueue
from ssl_bf.relations.surroundings import Beside, Samples, Side, Surroundings
from ssl_bf.shards.shard import all_gather_rows

MEMORY = 4096


def check_memory(neighbours: int, memory: int) -> None:
    """Refuse neighbours that a memory cannot have.

    Raises:
        ValueError: the message begins with the key.
    """
    if neighbours < 1:
        raise ValueError(f"neighbours: must be >= 1, got {neighbours}")
    if neighbours > memory:
        raise ValueError(f"neighbours: must be at most memory ({memory}), got {neighbours}")


class NeighbourMemory(Surroundings):
    """The plain features of the key side, of the last view of each step, from all devices.

    They are those that MoCo-v2 queues. Where one network makes both sides, they are its own.
    """

    def __init__(self, width: int, neighbours: int, memory: int, *, has_key_side: bool) -> None:
        """Hold nothing that can be a neighbour; draws from torch's global generator."""
        super().__init__()
        self.neighbours = neighbours
        self.has_key_side = has_key_side
        self.queue = KeyQueue(memory, width)
        self.noted: tuple[Tensor, Tensor] | None = None

    def observe(self, features: Tensor, samples: Samples, side: Side, view: int) -> None:
        """Note the rows of the key side for the next steps; the last view stays."""
        del view
        if side == "key" or not self.has_key_side:
            self.noted = features.detach(), samples.image_ids

    def beside(self, features: Tensor, samples: Samples, side: Side, view: int) -> Beside:
        """The most similar rows (N, m, D) of other images, each scaled to the length of its row."""
        del side, view
        rows, ids = full_precision(features), self.queue.image_ids
        similar = unit_length(rows.detach()) @ self.queue.keys.to(rows.dtype).T  # (N, M)
        is_none = (ids == NO_IMAGE) | (samples.image_ids[:, None] == ids)
        nearest = similar.masked_fill(is_none, -torch.inf).topk(self.neighbours, dim=1)
        found = self.queue.keys[nearest.indices].to(rows.dtype)
        found = found * rows.norm(dim=1)[:, None, None]
        there = nearest.values > -torch.inf
        return Beside(found.to(features.dtype), there, ids[nearest.indices])

    def after_step(self) -> None:
        """Take in what was noted; the oldest rows go."""
        if self.noted is not None:
            features, ids = self.noted
            self.queue.push(all_gather_rows(unit_length(features)), all_gather_rows(ids))
            self.noted = None

    def check_batch(self, local_batch: int, num_devices: int) -> None:
        """Refuse a memory that does not hold the rows of one step."""
        if len(self.queue.keys) < local_batch * num_devices:
            raise InputError(
                f"relation.memory: {len(self.queue.keys)} rows do not hold the "
                f"{local_batch * num_devices} of one step; raise it to a few steps"
            )

"""A first-in first-out queue of past keys, written in place and saved with the checkpoint.

Shapes: K rows, P projection width, N pushed rows.
"""

import torch
from torch import Tensor, nn

from ssl_bf.losses.unit_length import unit_length

NO_IMAGE = -1


class KeyQueue(nn.Module):
    """K unit-length keys with the ids of their images.

    It starts with random directions that belong to no image, as published. Buffers: `keys` (K, P)
    float32, `image_ids` (K,) int64, `pointer` () int64, the row that is overwritten next.

    Source: facebookresearch/moco 7397dfe, moco/builder.py.
    """

    pushed: int = 0  # rows of the last push

    def __init__(self, size: int, width: int) -> None:
        """Fill with random directions drawn from torch's global generator (the caller seeds)."""
        super().__init__()
        self.keys: Tensor
        self.image_ids: Tensor
        self.pointer: Tensor
        self.register_buffer("keys", unit_length(torch.randn(size, width)))
        self.register_buffer("image_ids", torch.full((size,), NO_IMAGE, dtype=torch.long))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, keys: Tensor, image_ids: Tensor) -> None:
        """Overwrite the oldest rows; the ring wraps exactly, nothing is dropped.

        Args:
            keys: (N, P) unit length, N <= K.
            image_ids: (N,) int64, the images that they show.
        """
        size, count = len(self.keys), len(keys)
        self.pushed = count
        assert count <= size, f"{count} keys do not fit into a queue of {size}"
        rows = torch.arange(count, device=keys.device).add_(self.pointer).remainder_(size)
        self.keys.index_copy_(0, rows, keys.to(self.keys.dtype))
        self.image_ids.index_copy_(0, rows, image_ids)
        self.pointer.add_(count).remainder_(size)  # stays on the device: no sync

    def older(self) -> Tensor:
        """(K - N,) rows that the last push left alone, oldest first: what its queries met."""
        size = len(self.keys)
        rows = torch.arange(size - self.pushed, device=self.keys.device)
        return rows.add_(self.pointer).remainder_(size)

    def measurements(self, image_ids: Tensor) -> dict[str, float]:
        """Age of the oldest key, and how much of the queue shows a query's own image.

        Args:
            image_ids: (N,) of the queries, each once, whose own keys were pushed last.

        Returns:
            `queue/age_steps`: pushes of which the queue holds the keys. `queue/own_image_share`:
            older keys that show a query's own image, as a mean share of the queue, in [0, 1].
        """
        filled = (self.image_ids != NO_IMAGE).sum()
        own = torch.isin(self.image_ids[self.older()], image_ids).sum()
        held, found = torch.stack([filled, own]).tolist()
        return {
            "queue/age_steps": held / max(self.pushed, 1),
            "queue/own_image_share": found / (len(image_ids) * len(self.keys)),
        }

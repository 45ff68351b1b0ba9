"""Normalisation over the nodes of a graph.

Source: Cai et al. 2021 (arXiv 2009.03294). Shapes: B graphs, g nodes each, D width.
"""

import torch
from torch import Tensor, nn

from ssl_bf.layers.all_reduce import all_reduce_sum
from ssl_bf.shards.shard import num_shards

EPSILON = 1e-5


class GraphNorm(nn.Module):
    """Each channel less a trained part of its mean over the nodes, at length 1, then affine."""

    def __init__(self, width: int, *, over_devices: bool = False) -> None:
        """Start as plain normalisation: the whole mean is taken off.

        Args:
            width: D.
            over_devices: the nodes of all processes are one graph; gradients pass between them.
        """
        super().__init__()
        self.over_devices = over_devices
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.mean_scale = nn.Parameter(torch.ones(width))

    def forward(self, nodes: Tensor) -> Tensor:
        """(B, g, D) -> (B, g, D)."""
        centred = nodes - self.mean_scale * self._mean(nodes)
        variance = self._mean(centred.square())
        return self.weight * centred * torch.rsqrt(variance + EPSILON) + self.bias

    def _mean(self, nodes: Tensor) -> Tensor:
        mean = nodes.mean(dim=1, keepdim=True)
        return all_reduce_sum(mean) / num_shards() if self.over_devices else mean

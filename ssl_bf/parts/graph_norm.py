"""Normalisation over the nodes of a graph.

Source: Cai et al. 2021 (arXiv 2009.03294). Shapes: B graphs, g nodes each, D width.
"""

import torch
from torch import Tensor, nn

EPSILON = 1e-5


class GraphNorm(nn.Module):
    """Each channel less a trained part of its mean over the nodes, at length 1, then affine."""

    def __init__(self, width: int) -> None:
        """Start as plain normalisation: the whole mean is taken off."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.mean_scale = nn.Parameter(torch.ones(width))

    def forward(self, nodes: Tensor) -> Tensor:
        """(B, g, D) -> (B, g, D)."""
        centred = nodes - self.mean_scale * nodes.mean(dim=1, keepdim=True)
        variance = centred.square().mean(dim=1, keepdim=True)
        return self.weight * centred * torch.rsqrt(variance + EPSILON) + self.bias

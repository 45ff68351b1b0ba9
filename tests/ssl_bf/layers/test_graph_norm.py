"""Tests of ssl_bf.layers.graph_norm."""

import torch

from ssl_bf.layers.graph_norm import GraphNorm


def test_each_channel_is_normalised_over_the_nodes_of_its_graph() -> None:
    nodes = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(0)).double() * 5 + 2
    norm = GraphNorm(4).double()
    out = norm(nodes)
    torch.testing.assert_close(out.mean(dim=1), torch.zeros(3, 4).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        out.square().mean(dim=1), torch.ones(3, 4).double(), rtol=1e-4, atol=0
    )
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2, 3, 4]))
        norm.bias.copy_(torch.tensor([0.5, 0, -1, 2]))
        norm.mean_scale.copy_(torch.tensor([0.0, 0.5, 1, 2]))
    for graph, found in zip(nodes, norm(nodes), strict=True):
        for channel in range(4):
            x = graph[:, channel] - norm.mean_scale[channel] * graph[:, channel].mean()
            x = x / (x.square().mean() + 1e-5).sqrt()
            expected = norm.weight[channel] * x + norm.bias[channel]
            torch.testing.assert_close(found[:, channel], expected)

"""The small ResNets for images of 32 px: three layers of 16, 32 and 64 channels.

Source: He et al. 2016 (arXiv 1512.03385), section 4.2, with option A of its section 3.3: a shortcut
to more channels skips every other pixel and fills the new channels with zeros. Shapes: N images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CIFAR_BLOCKS = {"resnet20": 3, "resnet32": 5}
"""Name -> residual blocks in each of the three layers."""


class CifarResNet(nn.Module):
    """A 3x3 stem, three layers of blocks, and a global average pool; 6n + 1 convolutions.

    The new channels of a shortcut lie in equal parts before and behind the old ones.
    """

    def __init__(self, blocks: int) -> None:
        """Draw the weights as torchvision's ResNets do (He et al. 2015, fan-out)."""
        super().__init__()
        self.conv1 = _conv3x3(3, 16)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _layer(16, 16, blocks)
        self.layer2 = _layer(16, 32, blocks)
        self.layer3 = _layer(32, 64, blocks)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 64)."""
        grid: Tensor = self.layer3(self.layer2(self.stem_and_layer1(images)))
        return grid.mean(dim=(2, 3))

    def stem_and_layer1(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 16, H, W)."""
        out: Tensor = self.layer1(torch.relu_(self.bn1(self.conv1(images))))
        return out


class _Block(nn.Module):
    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.stride = 1 if width_in == width else 2
        self.new_channels = width - width_in
        self.conv1 = _conv3x3(width_in, width, self.stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, grid: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        out = self.bn2(self.conv2(torch.relu_(self.bn1(self.conv1(grid)))))
        if self.stride > 1:
            half = self.new_channels // 2
            grid = functional.pad(grid[:, :, ::2, ::2], (0, 0, 0, 0, half, half))
        return torch.relu_(out + grid)


def _layer(width_in: int, width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(_Block(width_in, width), *(_Block(width, width) for _ in range(1, blocks)))


def _conv3x3(width_in: int, width: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv

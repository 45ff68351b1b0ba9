"""Tests of linear_eval.backbones.cifar_resnet."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from linear_eval.backbones.architectures import build_backbone, feature_dim
from linear_eval.backbones.cifar_resnet import CIFAR_BLOCKS, CifarResNet


@pytest.mark.parametrize(("name", "parameters"), [("resnet20", 269_722), ("resnet32", 464_154)])
def test_it_has_the_published_number_of_parameters(name: str, parameters: int) -> None:
    backbone = build_backbone(name)
    classifier = feature_dim(name) * 10 + 10
    found = sum(p.numel() for p in backbone.parameters()) + classifier
    assert found == parameters  # published: 0.27 M and 0.46 M
    convolutions = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) + 1 == int(name.removeprefix("resnet"))  # the classifier is a layer


def block_by_hand(block: nn.Module, x: Tensor) -> Tensor:
    """From the paper: option A's shortcut channel by channel."""
    state = block.state_dict()

    def norm(value: Tensor, name: str) -> Tensor:
        keys = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(value, *(state[f"{name}.{key}"] for key in keys))

    width, width_in = state["conv1.weight"].shape[:2]
    stride = 1 if width == width_in else 2
    y = functional.conv2d(x, state["conv1.weight"], stride=stride, padding=1)
    y = norm(y, "bn1").relu()
    y = norm(functional.conv2d(y, state["conv2.weight"], padding=1), "bn2")
    shortcut = torch.zeros_like(y)
    first = (width - x.shape[1]) // 2
    for channel in range(x.shape[1]):
        shortcut[:, first + channel] = x[:, channel, ::stride, ::stride]
    return (y + shortcut).relu()


def test_a_block_with_more_channels_has_a_shortcut_without_weights() -> None:
    backbone = CifarResNet(CIFAR_BLOCKS["resnet20"]).eval()
    for layer, width in ((backbone.layer1, 16), (backbone.layer2, 16), (backbone.layer3, 32)):
        x = torch.randn(2, width, 8, 8)
        block = layer[0]
        torch.testing.assert_close(block(x), block_by_hand(block, x))
    names = {name.rpartition(".")[0] for name in backbone.state_dict()}
    assert not any("downsample" in name or "shortcut" in name for name in names)


def test_it_takes_images_of_any_size() -> None:
    backbone = build_backbone("resnet20").eval()
    for size in (16, 32, 33):
        assert backbone(torch.zeros(2, 3, size, size)).shape == (2, 64)

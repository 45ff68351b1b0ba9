"""Architecture name -> backbone: (N, 3, H, W) -> (N, D), without any head.

The names and the state_dict keys are torchvision's (ResNets) and timm's (vision transformers), so
that their models accept our weights (except the classifier). `timm:NAME` is any model of timm.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import cast

import torch
from torch import Tensor, nn

from linear_eval.backbones.cifar_resnet import CIFAR_BLOCKS, CifarResNet
from linear_eval.backbones.timm_models import build_timm, is_timm, timm_model
from linear_eval.backbones.vision_transformers import VISION_TRANSFORMERS, build_vision_transformer
from linear_eval.system.errors import InputError, require_matching_torch

_RESNET_WIDTHS = {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "resnet101": 2048}
CIFAR_PADDINGS = {"_cifar": 1, "_cifar_padding2": 2}
"""Suffix -> padding of the 3x3 first convolution; solo-learn trains its CIFAR ResNets with 2."""
ARCHITECTURES: dict[str, int] = {
    "small_conv": 128,
    **_RESNET_WIDTHS,
    **{name + stem: width for stem in CIFAR_PADDINGS for name, width in _RESNET_WIDTHS.items()},
    **dict.fromkeys(CIFAR_BLOCKS, 64),
    **{name: shape.width for name, shape in VISION_TRANSFORMERS.items()},
}
"""Every architecture of our own names, and the width D of its features."""
CUSTOM = "custom:"
"""Begins the architecture of a module of somebody's own code, see `own_module`."""
COUNTER = ".num_batches_tracked"
"""End of the names of tensors that count training steps and change no feature."""


def build_backbone(architecture: str, *, zero_init_residual: bool = False) -> nn.Module:
    """Make a backbone with weights drawn from torch's global generator (the caller seeds it).

    Args:
        architecture: a name in `ARCHITECTURES`, or `timm:NAME`. `_cifar` means a 3x3 stride-1
            first convolution and no max-pool; `_cifar_padding2` the same, padded by 2.
        zero_init_residual: start the last BatchNorm weight of every residual branch at 0; changes
            ResNets only.

    Raises:
        InputError: unknown architecture, or one that needs timm without it.
    """
    feature_dim(architecture)
    if is_timm(architecture):
        return build_timm(architecture)
    if architecture == "small_conv":
        return SmallConv()
    if architecture in CIFAR_BLOCKS:
        return CifarResNet(CIFAR_BLOCKS[architecture])
    if architecture in VISION_TRANSFORMERS:
        return build_vision_transformer(architecture)
    return _build_resnet(architecture, zero_init_residual=zero_init_residual)


def feature_dim(architecture: str) -> int:
    """Width D of the features of an architecture.

    Raises:
        InputError: unknown architecture; names the nearest known one.
    """
    if is_timm(architecture):
        return timm_model(architecture).width
    if architecture in ARCHITECTURES:
        return ARCHITECTURES[architecture]
    if architecture.startswith(CUSTOM):
        name = architecture.removeprefix(CUSTOM)
        raise InputError(
            f"architecture: '{architecture}' is a module of somebody's own code, expected one that "
            f"is built by name; in Python: linear_eval.load(FILE, module={name}(...))"
        )
    near = get_close_matches(architecture, ARCHITECTURES, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(ARCHITECTURES)}, timm:NAME"
    raise InputError(f"architecture: '{architecture}' is not known; {hint}")


class SmallConv(nn.Module):
    """Four 3x3 conv-BatchNorm-ReLU layers and a global average pool.

    16-32-64-128 channels, strides 1-2-2-2, 97,680 parameters: small enough to pretrain on a CPU in
    minutes.
    """

    def __init__(self) -> None:
        """Draw the weights as torchvision's ResNets do (He et al. 2015, fan-out)."""
        super().__init__()
        widths = (3, 16, 32, 64, 128)
        self.layers = nn.Sequential()
        for i, stride in enumerate((1, 2, 2, 2)):
            conv = nn.Conv2d(widths[i], widths[i + 1], 3, stride=stride, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            self.layers.append(
                nn.Sequential(conv, nn.BatchNorm2d(widths[i + 1]), nn.ReLU(inplace=True))
            )

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 128)."""
        features: Tensor = self.layers(images)
        return features.mean(dim=(2, 3))


def _build_resnet(architecture: str, *, zero_init_residual: bool) -> nn.Module:
    require_matching_torch()
    from torchvision import models  # lazy: most of the suite never builds a ResNet

    name = architecture.split("_")[0]
    build = getattr(models, name)
    resnet = cast(nn.Module, build(weights=None, zero_init_residual=zero_init_residual))
    if padding := CIFAR_PADDINGS.get(architecture.removeprefix(name)):
        stem = nn.Conv2d(3, 64, 3, stride=1, padding=padding, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        resnet.conv1 = stem
        resnet.maxpool = nn.Identity()
    resnet.fc = nn.Identity()
    return resnet


def expected_state(architecture: str) -> dict[str, Tensor]:
    """Every weight and buffer of an architecture, without values; nothing is allocated."""
    if is_timm(architecture):
        return timm_model(architecture).state
    with torch.device("meta"):
        return build_backbone(architecture).state_dict()


def expected_tensors(architecture: str) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight and buffer of an architecture, without allocating them."""
    return {name: tuple(tensor.shape) for name, tensor in expected_state(architecture).items()}


def backbone_to_fill(architecture: str) -> nn.Module:
    """A backbone on the CPU whose weights and buffers are all about to be replaced."""
    if is_timm(architecture):
        # many of timm's models compute tensors when they are made, and keep them in no state_dict
        with torch.random.fork_rng(devices=[]):
            return build_backbone(architecture)
    with torch.device("meta"):  # draws no weights
        backbone = build_backbone(architecture)
    return backbone.to_empty(device="cpu")

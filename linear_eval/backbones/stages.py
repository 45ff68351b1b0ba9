"""A backbone in stages: callables that, one after another, are the backbone.

What is between two stages can be changed on its way (BatchFormerV2 does). Shapes: N images, D
feature width, T tokens of width E, C channels of an H x W grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from linear_eval.backbones.architectures import SmallConv
from linear_eval.backbones.cifar_resnet import CifarResNet
from linear_eval.system.errors import InputError

Stage = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Place:
    """A place between two stages.

    Attributes:
        stages: how many are before it.
        width: C or E there.
    """

    stages: int
    width: int


def stages(backbone: nn.Module) -> list[Stage]:
    """Cut a backbone; the parts share its parameters, under its names, and follow its mode.

    The first takes images (N, 3, H, W), the last gives features (N, D). Between them are grids
    (N, C, H, W), or tokens (N, T, E) with the class token first:

    - torchvision's ResNets: stem and layer1, layer2, layer3, layer4, pool;
    - CIFAR's ResNets: the same with three layers;
    - `small_conv`: its four layers, pool;
    - timm's EfficientNets: stem and first stage, each further stage, head;
    - vision transformers of timm's class: embedding, each block, norm and class token.

    Raises:
        InputError: the backbone has no stages.
    """
    if isinstance(backbone, SmallConv):
        return [*backbone.layers, _mean_over_grid]
    if isinstance(backbone, CifarResNet):
        return [backbone.stem_and_layer1, backbone.layer2, backbone.layer3, _mean_over_grid]
    if _is_from(backbone, "torchvision.models.resnet"):
        return _stages_of_resnet(backbone)
    if _is_plain_vit(backbone):
        return _stages_of_vit(backbone)
    if _is_plain(backbone, "EfficientNet"):
        return _stages_of_efficientnet(backbone)
    raise InputError(
        f"backbone: {type(backbone).__name__} has no stages, expected a ResNet, small_conv, or of "
        "timm's a VisionTransformer or an EfficientNet; choose one of these, or what needs no "
        "stages (relation.insert_at=projection, method.layer_decay=1, backbone.frozen_stages=0)"
    )


def places(backbone: nn.Module) -> dict[int, Place]:
    """Places between stages, by how many layers or blocks are before them.

    Layers count from 1 (ResNets and `small_conv` have four, CIFAR's ResNets three, EfficientNets as
    many as they have groups of blocks), blocks too; 0 is behind the embedding.

    Raises:
        InputError: the backbone has no stages.
    """
    cut, network = stages(backbone), backbone
    if _is_plain_vit(network):
        width: Any = network.embed_dim
        return {number: Place(number + 1, width) for number in range(len(cut) - 1)}
    layers = _layers(network)
    if _is_plain(network, "EfficientNet"):  # whose last convolution may be of several branches
        widths = [grid[0] for grid in shapes_between(network, range(1, 1 + len(layers)), 64)]
    else:
        widths = [
            [each.out_channels for each in layer.modules() if isinstance(each, nn.Conv2d)][-1]
            for layer in layers
        ]
    return {number: Place(number, width) for number, width in enumerate(widths, start=1)}


@torch.no_grad()
def shapes_between(
    backbone: nn.Module, before: Sequence[int], image_size: int
) -> list[tuple[int, ...]]:
    """Shapes of one image's values between stages.

    Args:
        backbone: that has stages; its mode and statistics stay.
        before: numbers of stages, rising: the values behind so many.
        image_size: S of square images.

    Returns:
        (E, H, W) or (T, E) for each of `before`.
    """
    was_training = [each for each in backbone.modules() if each.training]
    backbone.eval()
    values = next(backbone.parameters()).new_zeros(1, 3, image_size, image_size)
    shapes = []
    for number, stage in enumerate(stages(backbone)[: before[-1]], start=1):
        values = stage(values)
        if number in before:
            shapes.append(tuple(values.shape[1:]))
    for each in was_training:
        each.training = True
    return shapes


def parameters_by_stage(backbone: nn.Module) -> list[list[str]]:
    """Names of the parameters in each stage that has any, in the order of the stages.

    The last norm of a transformer is a stage of its own, and so is an EfficientNet's last
    convolution.

    Raises:
        InputError: the backbone has no stages.
    """
    stages(backbone)  # which refuses the others
    names = [name for name, _ in backbone.named_parameters()]
    prefixes: list[tuple[str, ...]]
    if isinstance(backbone, SmallConv):
        prefixes = [(f"layers.{number}.",) for number in range(len(backbone.layers))]
    elif _is_plain_vit(backbone):
        network: Any = backbone
        blocks = [(f"blocks.{number}.",) for number in range(len(network.blocks))]
        prefixes = [*blocks, ("norm.", "fc_norm.", "attn_pool.")]
        rest = tuple(name for name in names if not name.startswith(sum(prefixes, ())))
        prefixes = [rest, *prefixes]
    elif _is_plain(backbone, "EfficientNet"):
        blocks = [(f"blocks.{number}.",) for number in range(1, len(_layers(backbone)))]
        prefixes = [("conv_stem.", "bn1.", "blocks.0."), *blocks, ("conv_head.", "bn2.")]
    else:
        layers = range(2, 1 + len(_layers_of_resnet(backbone)))
        prefixes = [("conv1.", "bn1.", "layer1."), *((f"layer{number}.",) for number in layers)]
    found = [[name for name in names if name.startswith(prefix)] for prefix in prefixes]
    assert sum(map(len, found)) == len(names), "a parameter in no stage, or in two"
    return [stage for stage in found if stage]


def has_class_token(backbone: nn.Module) -> bool:
    """Whether the first token between its stages is a class token."""
    return getattr(backbone, "cls_token", None) is not None


def _mean_over_grid(grid: Tensor) -> Tensor:
    return grid.mean(dim=(2, 3))


def _stages_of_resnet(network: Any) -> list[Stage]:
    def stem_and_layer1(images: Tensor) -> Tensor:
        grid = network.maxpool(network.relu(network.bn1(network.conv1(images))))
        out: Tensor = network.layer1(grid)
        return out

    def pool(grid: Tensor) -> Tensor:
        out: Tensor = network.fc(torch.flatten(network.avgpool(grid), 1))
        return out

    return [stem_and_layer1, *_layers_of_resnet(network)[1:], pool]


def _layers_of_resnet(network: Any) -> list[nn.Module]:
    return [layer for name, layer in network.named_children() if name.startswith("layer")]


def _layers(network: Any) -> list[nn.Module]:
    """What is counted from 1 in a network of convolutions."""
    if isinstance(network, SmallConv):
        return list(network.layers)
    if _is_plain(network, "EfficientNet"):
        return list(network.blocks)
    return _layers_of_resnet(network)


def _stages_of_efficientnet(network: Any) -> list[Stage]:
    first, *others = network.blocks

    def stem_and_first(images: Tensor) -> Tensor:
        out: Tensor = first(network.bn1(network.conv_stem(images)))
        return out

    def head(grid: Tensor) -> Tensor:
        out: Tensor = network.forward_head(network.bn2(network.conv_head(grid)))
        return out

    return [stem_and_first, *others, head]


def _stages_of_vit(network: Any) -> list[Stage]:
    def embed(images: Tensor) -> Tensor:
        tokens = network._pos_embed(network.patch_embed(images))
        out: Tensor = network.norm_pre(network.patch_drop(tokens))
        return out

    def norm_and_pool(tokens: Tensor) -> Tensor:
        out: Tensor = network.forward_head(network.norm(tokens))
        return out

    return [embed, *network.blocks, norm_and_pool]


def _is_plain_vit(backbone: nn.Module) -> bool:
    return _is_plain(backbone, "VisionTransformer")


def _is_plain(backbone: nn.Module, name: str) -> bool:
    """Whether its forward is that of this class of timm; some subclasses have their own."""
    if not _is_from(backbone, "timm."):
        return False
    import timm.models  # lazy: whoever has such a module has timm

    kind = getattr(timm.models, name)
    ways = ("forward", "forward_features")
    return isinstance(backbone, kind) and all(
        getattr(type(backbone), way) is getattr(kind, way) for way in ways
    )


def _is_from(backbone: nn.Module, module: str) -> bool:
    return type(backbone).__module__.startswith(module)

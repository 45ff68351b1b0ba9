"""Vision transformers: timm's, under timm's names; the feature is the class token.

Shapes: N images, D feature width, T = 1 + patches tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from linear_eval.backbones.timm_models import import_timm
from linear_eval.system.errors import InputError

TRAINED_SIZE = 224  # pixels a side; other sizes get interpolated position embeddings
_TEMPERATURE = 10_000.0  # of the sin-cos embedding


@dataclass(frozen=True)
class VisionTransformer:
    """What tells the architectures apart; the head count shows in no tensor's shape.

    Attributes:
        width: D.
        heads: divides D.
        patch: pixels a side.
        fixed_positions: a sin-cos position embedding that is never trained (MoCo v3).
        depth: number of blocks.
        size: pixels a side of the images that it was made for.
    """

    width: int
    heads: int
    patch: int = 16
    fixed_positions: bool = False
    depth: int = 12
    size: int = TRAINED_SIZE


VISION_TRANSFORMERS = {
    "vit_tiny_patch16_224": VisionTransformer(192, 3),
    "vit_small_patch16_224": VisionTransformer(384, 6),
    "vit_base_patch16_224": VisionTransformer(768, 12),
    "vit_small_patch8_224": VisionTransformer(384, 6, patch=8),
    "vit_base_patch8_224": VisionTransformer(768, 12, patch=8),
    "vit_tiny_moco_v3": VisionTransformer(192, 3, fixed_positions=True),
    "vit_small_moco_v3": VisionTransformer(384, 12, fixed_positions=True),
    "vit_base_moco_v3": VisionTransformer(768, 12, fixed_positions=True),
    "vit_micro": VisionTransformer(128, 4, patch=4, fixed_positions=True, depth=4, size=32),
}
"""Those of `_224` are timm's. MoCo v3's Small has 12 heads where timm's has 6; the paper has no
Tiny. `vit_micro` is for small images and for CPUs."""


def build_vision_transformer(architecture: str) -> nn.Module:
    """(N, 3, H, W) -> (N, D): the class token after the last norm; H and W multiples of the patch.

    Images of another size than it was made for get interpolated position embeddings, as timm does
    it. With fixed positions the initial values are those of MoCo v3 as well.

    Raises:
        InputError: timm is missing or does not load.

    Source: Dosovitskiy et al. 2021 (arXiv 2010.11929); Chen et al. 2021 (arXiv 2104.02057) for
        fixed positions.
    """
    shape = VISION_TRANSFORMERS[architecture]
    timm = import_timm(f"architecture: '{architecture}' needs timm")
    network = timm.models.VisionTransformer(
        img_size=shape.size,
        patch_size=shape.patch,
        embed_dim=shape.width,
        depth=shape.depth,
        num_heads=shape.heads,
        num_classes=0,
        dynamic_img_size=True,
        weight_init="moco" if shape.fixed_positions else "",
    )
    if shape.fixed_positions:
        network.pos_embed = nn.Parameter(fixed_positions(shape), requires_grad=False)
        _start_projection(network.patch_embed.proj)
    network.patch_embed.register_forward_pre_hook(_check_size)
    return cast(nn.Module, network)


def freeze_patch_projection(network: nn.Module) -> None:
    """Leave the projection of the patches as it is, in place: it is never trained.

    A random projection loses nothing that matters, and the rare huge gradients of a training
    begin in the trained one.

    Source: Chen et al. 2021 (arXiv 2104.02057), section 4.
    """
    network.get_submodule("patch_embed").requires_grad_(False)


def _start_projection(projection: nn.Conv2d) -> None:
    """Xavier's uniform values, as for a linear layer of all pixels of a patch; zero biases."""
    nn.init.xavier_uniform_(projection.weight.view(projection.out_channels, -1))
    assert projection.bias is not None
    nn.init.zeros_(projection.bias)


def fixed_positions(shape: VisionTransformer) -> Tensor:
    """The sin-cos embedding of MoCo v3 (1, T, D): zeros for the class token, then row by row.

    The first half of D encodes the slow coordinate, the second half the fast one.
    """
    side = shape.size // shape.patch
    quarter = shape.width // 4
    frequency = 1.0 / _TEMPERATURE ** (torch.arange(quarter, dtype=torch.float32) / quarter)
    position = torch.arange(side, dtype=torch.float32)
    slow = position.repeat_interleave(side)[:, None] * frequency  # (T - 1, D / 4)
    fast = position.repeat(side)[:, None] * frequency
    patches = torch.cat([slow.sin(), slow.cos(), fast.sin(), fast.cos()], dim=1)
    return torch.cat([torch.zeros(1, shape.width), patches])[None]


def check_heads(architecture: str, tensors: dict[str, Tensor]) -> None:
    """Refuse weights whose position embedding says that they were trained with other heads.

    MoCo v3's ViT-S (12 heads) and timm's, DINO's, DeiT's (6 heads) have tensors of the same names
    and shapes, but only MoCo v3 has the fixed sin-cos embedding: nothing else tells them apart.

    Raises:
        InputError: names the architecture to ask for.
    """
    shape = VISION_TRANSFORMERS.get(architecture)
    if shape is None:
        return
    positions = tensors["pos_embed"].float()
    # half precision rounds a sine by up to 5e-4, bfloat16 by 4e-3; a trained embedding is far off
    is_fixed = torch.allclose(positions, fixed_positions(shape), rtol=0, atol=5e-3)
    for other, its in VISION_TRANSFORMERS.items():
        same_tensors = (its.width, its.patch) == (shape.width, shape.patch)
        if same_tensors and its.heads != shape.heads and its.fixed_positions == is_fixed:
            kind = "MoCo v3's fixed sin-cos" if is_fixed else "not MoCo v3's"
            raise InputError(
                f"architecture: the position embedding is {kind}, so these weights have "
                f"{its.heads} heads and '{architecture}' has {shape.heads}; "
                f"use --architecture {other}"
            )


def _check_size(patch_embed: Any, inputs: tuple[Tensor, ...]) -> None:
    height, width = inputs[0].shape[-2:]
    patch = patch_embed.patch_size[0]
    if height % patch or width % patch:
        raise InputError(
            f"images: {width} x {height} pixels cannot be cut into patches of {patch} x {patch}; "
            f"choose multiples of {patch}, e.g. images.resize=256 images.crop=224 "
            "(pretraining: views.size=224)"
        )

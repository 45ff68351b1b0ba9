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
_DEPTH = 12
_TEMPERATURE = 10_000.0  # of the sin-cos embedding


@dataclass(frozen=True)
class VisionTransformer:
    """What tells the architectures apart; the head count shows in no tensor's shape.

    Attributes:
        width: D.
        heads: divides D.
        patch: pixels a side.
        fixed_positions: a sin-cos position embedding that is never trained (MoCo v3).
    """

    width: int
    heads: int
    patch: int = 16
    fixed_positions: bool = False


VISION_TRANSFORMERS = {
    "vit_tiny_patch16_224": VisionTransformer(192, 3),
    "vit_small_patch16_224": VisionTransformer(384, 6),
    "vit_base_patch16_224": VisionTransformer(768, 12),
    "vit_small_patch8_224": VisionTransformer(384, 6, patch=8),
    "vit_base_patch8_224": VisionTransformer(768, 12, patch=8),
    "vit_small_moco_v3": VisionTransformer(384, 12, fixed_positions=True),
}
"""Names are timm's; `vit_small_moco_v3` is MoCo v3's own: 12 heads where timm has 6."""


def build_vision_transformer(architecture: str) -> nn.Module:
    """(N, 3, H, W) -> (N, D): the class token after the last norm; H and W multiples of the patch.

    Images of another size than 224 x 224 get interpolated position embeddings, as timm does it.

    Raises:
        InputError: timm is missing or does not load.

    Source: Dosovitskiy et al. 2021 (arXiv 2010.11929); Chen et al. 2021 (arXiv 2104.02057) for
        `vit_small_moco_v3`.
    Differs: `vit_small_moco_v3` starts its patch embedding and class token as timm does.
    """
    shape = VISION_TRANSFORMERS[architecture]
    timm = import_timm(f"architecture: '{architecture}' needs timm")
    network = timm.models.VisionTransformer(
        img_size=TRAINED_SIZE,
        patch_size=shape.patch,
        embed_dim=shape.width,
        depth=_DEPTH,
        num_heads=shape.heads,
        num_classes=0,
        dynamic_img_size=True,
        weight_init="moco" if shape.fixed_positions else "",
    )
    if shape.fixed_positions:
        network.pos_embed = nn.Parameter(fixed_positions(shape), requires_grad=False)
    network.register_forward_pre_hook(_check_size)
    return cast(nn.Module, network)


def fixed_positions(shape: VisionTransformer) -> Tensor:
    """The sin-cos embedding of MoCo v3 (1, T, D): zeros for the class token, then row by row.

    The first half of D encodes the slow coordinate, the second half the fast one.
    """
    side = TRAINED_SIZE // shape.patch
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


def _check_size(network: Any, inputs: tuple[Tensor, ...]) -> None:
    height, width = inputs[0].shape[-2:]
    patch = network.patch_embed.patch_size[0]
    if height % patch or width % patch:
        raise InputError(
            f"images: {width} x {height} pixels cannot be cut into patches of {patch} x {patch}; "
            f"choose multiples of {patch}, e.g. images.resize=256 images.crop=224"
        )

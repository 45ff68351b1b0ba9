"""How libraries name the tensors inside a backbone: data only; see `layouts.py`.

Source: the state_dicts of the published code.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Dialect:
    """How a library names the tensors of a backbone; `renames` are tried in order, first fit wins.

    Attributes:
        name: for people.
        renames: pattern -> our name.
        refuses: start of an architecture -> why this library's weights do not fit it.
    """

    name: str
    renames: dict[str, str]
    refuses: dict[str, str] = field(default_factory=dict)


_LAYER = r"encoder\.layers\.encoder_layer_(\d+)\."  # torchvision's vision transformer
_HF_BLOCK = {
    r"shortcut\.convolution": "downsample.0",
    r"shortcut\.normalization": "downsample.1",
    **{rf"layer\.{k}\.convolution": f"conv{k + 1}" for k in range(3)},
    **{rf"layer\.{k}\.normalization": f"bn{k + 1}" for k in range(3)},
}
_EFFICIENTNET = {  # of a block with expansion; the first block has none, and other names
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_EFFICIENTNET_FIRST = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_LITE0_BLOCKS = (1, 2, 2, 3, 3, 4, 1)  # of each stage; numbered through in the file
_SEQUENTIAL_STEM = {r"0\.": "conv1.", r"1\.": "bn1."}

DIALECTS = (
    Dialect("torchvision / timm names", {}),
    Dialect(
        "numbered children of a torchvision ResNet",  # nn.Sequential(*list(resnet.children())[:-1])
        {**_SEQUENTIAL_STEM, **{rf"{i + 3}\.": f"layer{i}." for i in (1, 2, 3, 4)}},
    ),
    Dialect(
        "lightly's ResNetGenerator",
        {r"(layer\d\.\d+)\.shortcut\.": r"\1.downsample."},
    ),
    Dialect(
        "numbered children of lightly's ResNetGenerator",  # it has no max-pool, and calls ReLU as F
        {
            **_SEQUENTIAL_STEM,
            **{rf"{i + 1}\.(\d+)\.shortcut\.": rf"layer{i}.\1.downsample." for i in (1, 2, 3, 4)},
            **{rf"{i + 1}\.": f"layer{i}." for i in (1, 2, 3, 4)},
        },
    ),
    Dialect(
        "Hugging Face's ResNet",
        {
            r"embedder\.embedder\.convolution\.": "conv1.",
            r"embedder\.embedder\.normalization\.": "bn1.",
            **{
                rf"encoder\.stages\.{i}\.layers\.(\d+)\.{theirs}\.": rf"layer{i + 1}.\1.{ours}."
                for i in range(4)
                for theirs, ours in _HF_BLOCK.items()
            },
        },
    ),
    Dialect(
        "efficientnet-pytorch's EfficientNet-Lite0",
        {
            r"_conv_stem\.": "conv_stem.",
            r"_bn0\.": "bn1.",
            r"_conv_head\.": "conv_head.",
            r"_bn1\.": "bn2.",
            **{
                rf"_blocks\.{sum(_LITE0_BLOCKS[:stage]) + block}\.{theirs}\.": (
                    f"blocks.{stage}.{block}.{ours}."
                )
                for stage, count in enumerate(_LITE0_BLOCKS)
                for block in range(count)
                for theirs, ours in (_EFFICIENTNET if stage else _EFFICIENTNET_FIRST).items()
            },
        },
        refuses={
            "timm:efficientnet_lite0": "efficientnet-pytorch pads as TensorFlow does, so "
            "{architecture} would not compute the same; use --architecture "
            "timm:tf_efficientnet_lite0"
        },
    ),
    Dialect(
        "mmpretrain's vision transformer",
        {
            r"patch_embed\.projection\.": "patch_embed.proj.",
            r"layers\.(\d+)\.ln([12])\.": r"blocks.\1.norm\2.",
            r"layers\.(\d+)\.attn\.": r"blocks.\1.attn.",
            r"layers\.(\d+)\.ffn\.layers\.0\.0\.": r"blocks.\1.mlp.fc1.",
            r"layers\.(\d+)\.ffn\.layers\.1\.": r"blocks.\1.mlp.fc2.",
            r"ln1\.": "norm.",
        },
    ),
    Dialect(
        "torchvision's vision transformer",
        {
            r"class_token$": "cls_token",
            r"conv_proj\.": "patch_embed.proj.",
            r"encoder\.pos_embedding$": "pos_embed",
            r"encoder\.ln\.": "norm.",
            _LAYER + r"ln_([12])\.": r"blocks.\1.norm\2.",
            _LAYER + r"self_attention\.in_proj_": r"blocks.\1.attn.qkv.",
            _LAYER + r"self_attention\.out_proj\.": r"blocks.\1.attn.proj.",
            _LAYER + r"mlp\.(0|linear_1)\.": r"blocks.\1.mlp.fc1.",
            _LAYER + r"mlp\.(3|linear_2)\.": r"blocks.\1.mlp.fc2.",
        },
    ),
)

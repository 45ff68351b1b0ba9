import math
import sys

import pytest
import torch

from linear_eval.backbones.architectures import (
    ARCHITECTURES,
    build_backbone,
    expected_tensors,
    feature_dim,
)
from linear_eval.backbones.configs import VisionTransformerConfig
from linear_eval.backbones.vision_transformers import (
    VISION_TRANSFORMERS,
    VisionTransformer,
    check_heads,
    fixed_positions,
)
from linear_eval.strict_config.reader import parse_config
from linear_eval.system.errors import InputError

TIMM_NAMES = [name for name in VISION_TRANSFORMERS if name.endswith("_224")]


def test_a_missing_timm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "timm.models", None)
    with pytest.raises(InputError, match=r"needs timm, which cannot.*ssl-bf\[timm\]"):
        build_backbone("vit_tiny_patch16_224")


def test_the_widths_are_known_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert {
        name: feature_dim(name) for name in VISION_TRANSFORMERS
    }.items() <= ARCHITECTURES.items()


@pytest.mark.parametrize("architecture", VISION_TRANSFORMERS)
def test_a_backbone_gives_one_row_of_its_width_per_image(architecture: str) -> None:
    pytest.importorskip("timm", reason="vision transformers need the extra timm")
    with torch.device("meta"):
        backbone = build_backbone(architecture)
        assert backbone(torch.zeros(2, 3, 32, 32)).shape == (2, feature_dim(architecture))


@pytest.mark.parametrize("name", TIMM_NAMES)
def test_timm_has_the_same_tensors_and_heads(name: str) -> None:
    timm = pytest.importorskip("timm", reason="vision transformers need the extra timm")
    with torch.device("meta"):
        theirs = timm.create_model(name, num_classes=0)
        ours = build_backbone(name)
    shapes = {key: tuple(tensor.shape) for key, tensor in theirs.state_dict().items()}
    assert expected_tensors(name) == shapes
    heads = [block.attn.num_heads for block in theirs.blocks]
    assert [block.attn.num_heads for block in ours.get_submodule("blocks").children()] == heads  # type: ignore[union-attr]


def test_the_feature_is_timms_class_token_bit_for_bit() -> None:
    timm = pytest.importorskip("timm", reason="vision transformers need the extra timm")
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    ours = build_backbone("vit_tiny_patch16_224").eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs(images))
        assert torch.equal(ours(images), theirs.forward_features(images)[:, 0])


@pytest.mark.parametrize("name", ["vit_tiny_moco_v3", "vit_small_moco_v3", "vit_micro"])
def test_with_the_same_weights_timms_own_class_gives_the_same_features(name: str) -> None:
    timm = pytest.importorskip("timm", reason="vision transformers need the extra timm")
    shape = VISION_TRANSFORMERS[name]
    theirs = timm.models.VisionTransformer(
        img_size=shape.size,
        patch_size=shape.patch,
        embed_dim=shape.width,
        depth=shape.depth,
        num_heads=shape.heads,
        num_classes=0,
    ).eval()
    ours = build_backbone(name).eval()
    with torch.no_grad():  # far from the initial values, whose outputs are all alike
        for value in ours.parameters():
            value.add_(0.05 * torch.randn_like(value))
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, shape.size, shape.size)
    with torch.inference_mode():
        expected = theirs(images)
        assert float((ours(images) - expected).abs().max()) <= 1e-6 * float(expected.abs().max())


def test_a_vit_is_attention_and_two_norms_per_block() -> None:
    """The published architecture once more, from its formulas, in float64."""
    pytest.importorskip("timm", reason="vision transformers need the extra timm")
    network = build_backbone("vit_micro").double().eval()
    state = network.state_dict()

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return torch.addcmul(state[f"{name}.bias"], scaled, state[f"{name}.weight"])

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    patches = images.unfold(2, 4, 4).unfold(3, 4, 4)  # (N, 3, 8, 8, 4, 4)
    patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(2, 64, 48)
    projection = state["patch_embed.proj.weight"].reshape(128, 48)
    x = patches @ projection.T + state["patch_embed.proj.bias"]
    x = torch.cat([state["cls_token"].expand(2, 1, 128), x], dim=1) + state["pos_embed"]
    for b in range(4):
        name = f"blocks.{b}"
        q, k, v = linear(f"{name}.attn.qkv", norm(f"{name}.norm1", x)).chunk(3, dim=2)
        heads = []
        for h in range(0, 128, 32):
            scores = q[..., h : h + 32] @ k[..., h : h + 32].transpose(1, 2) / 32**0.5
            heads.append(scores.softmax(dim=2) @ v[..., h : h + 32])
        x = x + linear(f"{name}.attn.proj", torch.cat(heads, dim=2))
        hidden = linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", x))
        hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
        x = x + linear(f"{name}.mlp.fc2", hidden)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), norm("norm", x)[:, 0], rtol=1e-10, atol=1e-10)


def test_vit_micro_has_under_a_million_parameters() -> None:
    pytest.importorskip("timm", reason="vision transformers need the extra timm")
    assert 750_000 < sum(p.numel() for p in build_backbone("vit_micro").parameters()) < 1_000_000


def test_initial_values_are_those_of_moco_v3() -> None:
    pytest.importorskip("timm", reason="vision transformers need the extra timm")
    state = build_backbone("vit_micro").state_dict()
    for name, inputs, outputs in (
        ("patch_embed.proj", 3 * 4 * 4, 128),
        ("blocks.3.attn.qkv", 128, 128),  # query, key and value each for itself
        ("blocks.3.mlp.fc1", 128, 512),
    ):
        bound = math.sqrt(6 / (inputs + outputs))
        assert 0.98 * bound < float(state[f"{name}.weight"].abs().max()) <= bound
        assert not state[f"{name}.bias"].any()
    assert 0 < float(state["cls_token"].abs().max()) < 1e-5


@pytest.mark.parametrize("is_frozen", [True, False])
def test_the_projection_of_the_patches_is_frozen_where_asked(*, is_frozen: bool) -> None:
    pytest.importorskip("timm", reason="vision transformers need the extra timm")
    config = VisionTransformerConfig(name="vit_micro", freeze_patch_projection=is_frozen)
    frozen = [name for name, p in config.build().named_parameters() if not p.requires_grad]
    projection = ["patch_embed.proj.weight", "patch_embed.proj.bias"] if is_frozen else []
    assert frozen == ["pos_embed", *projection]


def test_the_training_names_are_moco_v3s_architectures() -> None:
    for name, architecture, width in (
        ("vit_micro", "vit_micro", 128),
        ("vit_tiny", "vit_tiny_moco_v3", 192),
        ("vit_small", "vit_small_moco_v3", 384),
        ("vit_base", "vit_base_moco_v3", 768),
    ):
        loaded = parse_config(VisionTransformerConfig, {"name": name}).value
        assert (loaded.architecture, loaded.width) == (architecture, width)


def test_moco_v3_has_12_heads_and_positions_that_are_never_trained() -> None:
    pytest.importorskip("timm", reason="vision transformers need the extra timm")
    backbone = build_backbone("vit_small_moco_v3")
    frozen = [name for name, value in backbone.named_parameters() if not value.requires_grad]
    assert frozen == ["pos_embed"]
    first = backbone.get_submodule("blocks.0.attn")
    assert first.num_heads == 12
    assert torch.equal(
        backbone.state_dict()["pos_embed"],
        fixed_positions(VISION_TRANSFORMERS["vit_small_moco_v3"]),
    )


def test_fixed_positions_follow_the_formula() -> None:
    # brute force, from the text of the paper: sine and cosine of each coordinate at D/4 frequencies
    shape = VisionTransformer(width=8, heads=2, patch=56, fixed_positions=True)  # 4 x 4 patches
    got = fixed_positions(shape)
    assert got.shape == (1, 17, 8)
    assert torch.equal(got[0, 0], torch.zeros(8))
    for slow in range(4):
        for fast in range(4):
            expected = [
                function(coordinate / 10_000 ** (i / 2))
                for coordinate in (slow, fast)
                for function in (math.sin, math.cos)
                for i in range(2)
            ]
            torch.testing.assert_close(got[0, 1 + 4 * slow + fast], torch.tensor(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_positions_tell_6_heads_from_12(dtype: torch.dtype) -> None:
    fixed = fixed_positions(VISION_TRANSFORMERS["vit_small_moco_v3"]).to(dtype)
    learned = (torch.randn(fixed.shape, generator=torch.Generator().manual_seed(0)) * 0.02).to(
        dtype
    )
    check_heads("vit_small_moco_v3", {"pos_embed": fixed})
    check_heads("vit_small_patch16_224", {"pos_embed": learned})
    with pytest.raises(InputError, match="12 heads .* use --architecture vit_small_moco_v3"):
        check_heads("vit_small_patch16_224", {"pos_embed": fixed})
    with pytest.raises(InputError, match="6 heads .* use --architecture vit_small_patch16_224"):
        check_heads("vit_small_moco_v3", {"pos_embed": learned})


def test_the_base_size_has_12_heads_either_way() -> None:
    fixed = fixed_positions(VISION_TRANSFORMERS["vit_base_patch16_224"])
    check_heads("vit_base_patch16_224", {"pos_embed": fixed})
    check_heads("vit_base_patch16_224", {"pos_embed": torch.zeros_like(fixed)})
    check_heads("resnet18", {})


def test_an_image_that_cannot_be_cut_into_patches_is_refused() -> None:
    pytest.importorskip("timm", reason="vision transformers need the extra timm")
    with torch.device("meta"):
        backbone = build_backbone("vit_tiny_patch16_224")
        with pytest.raises(InputError, match="100 x 96 pixels .* patches of 16 x 16"):
            backbone(torch.zeros(1, 3, 96, 100))

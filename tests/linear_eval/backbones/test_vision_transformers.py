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
from linear_eval.backbones.vision_transformers import (
    VISION_TRANSFORMERS,
    VisionTransformer,
    check_heads,
    fixed_positions,
)
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

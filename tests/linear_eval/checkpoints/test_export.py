import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from linear_eval.backbones.architectures import build_backbone, feature_dim
from linear_eval.backbones.backbone_file import load_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.checkpoints import export as exporting
from linear_eval.checkpoints.export import Format, export
from linear_eval.system.errors import InputError

INFO = BackboneInfo(
    architecture="resnet18",
    feature_dim=512,
    image_size=32,
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.25, 0.3),
    provenance={"title": "pretrained"},
)


def _trained(architecture: str, size: int = 32) -> tuple[nn.Module, BackboneInfo]:
    """A backbone whose BatchNorm statistics are those of data, not the initial ones."""
    torch.manual_seed(0)
    backbone = build_backbone(architecture)
    with torch.no_grad():
        backbone(torch.randn(8, 3, size, size))
    info = replace(INFO, architecture=architecture, feature_dim=feature_dim(architecture))
    return backbone, replace(info, image_size=size)


def _images(size: int = 32) -> Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


def _features(model: Any, size: int = 32) -> Tensor:
    with torch.inference_mode():
        features: Tensor = model.eval()(_images(size))
    return features


def test_the_backbone_file_is_a_format_too(tmp_path: Path) -> None:
    backbone, info = _trained("small_conv")
    export(backbone, info, file_format="safetensors", output=tmp_path / "b")
    assert load_backbone(tmp_path / "b")[1] == info


def test_torchvision_takes_the_state_dict_and_computes_the_same(tmp_path: Path) -> None:
    backbone, info = _trained("resnet18")
    export(backbone, info, file_format="torchvision", output=tmp_path / "b.pth")
    model = torchvision.models.resnet18()
    keys = model.load_state_dict(torch.load(tmp_path / "b.pth", weights_only=True), strict=False)
    assert (set(keys.missing_keys), keys.unexpected_keys) == ({"fc.weight", "fc.bias"}, [])
    model.fc = nn.Identity()
    assert torch.equal(_features(model), _features(backbone))


@pytest.mark.parametrize("architecture", ["resnet18", "vit_tiny_patch16_224", "vit_tiny_moco_v3"])
def test_timm_takes_the_tensors_strictly_and_computes_the_same(
    architecture: str, tmp_path: Path
) -> None:
    timm = pytest.importorskip("timm", reason="what is exported for timm is checked with timm")
    size = 224 if architecture.startswith("vit") else 32
    backbone, info = _trained(architecture, size)
    export(backbone, info, file_format="timm", output=tmp_path / "b.safetensors")
    theirs = {"vit_tiny_moco_v3": "vit_tiny_patch16_224"}.get(architecture, architecture)
    model = timm.create_model(theirs, num_classes=0)
    model.load_state_dict(safetensors.torch.load_file(tmp_path / "b.safetensors"), strict=True)
    torch.testing.assert_close(_features(model, size), _features(backbone, size))


@pytest.mark.parametrize(
    ("file_format", "architecture"),
    [
        ("torchvision", "small_conv"),
        ("torchvision", "resnet18_cifar"),
        ("torchvision", "vit_tiny_patch16_224"),
        ("timm", "small_conv"),
        ("timm", "resnet50_cifar"),
        ("timm", "vit_small_moco_v3"),  # timm's has 6 heads, and would take the tensors silently
    ],
)
def test_an_architecture_without_a_counterpart_is_refused(
    file_format: Format, architecture: str, tmp_path: Path
) -> None:
    info = replace(INFO, architecture=architecture)
    with pytest.raises(InputError, match=f"^--format: {file_format} has no {architecture}, "):
        export(nn.Identity(), info, file_format=file_format, output=tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_computes_something_else_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, info = _trained("resnet18")
    output = tmp_path / "b.pth"
    output.write_text("before")
    real = exporting._tensors

    def damaged(module: nn.Module) -> dict[str, Tensor]:
        return {name: 1.01 * tensor for name, tensor in real(module).items()}

    monkeypatch.setattr(exporting, "_tensors", damaged)
    with pytest.raises(InputError, match="gives other features than the backbone"):
        export(backbone, info, file_format="torchvision", output=output)
    assert output.read_text() == "before"
    assert list(tmp_path.iterdir()) == [output]


def test_a_missing_timm_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"pip install 'ssl-bf\[timm\]'"):
        export(nn.Identity(), INFO, file_format="timm", output=tmp_path / "b")


def test_a_model_of_timm_goes_back_to_timm(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="models of timm need the extra timm")
    name = "timm:test_vit_relpos"
    network = build_backbone(name).eval()
    info = BackboneInfo(name, feature_dim(name), 160, (0.5,) * 3, (0.5,) * 3)
    export(network, info, file_format="timm", output=tmp_path / "b.safetensors")
    theirs = timm.create_model("test_vit_relpos", num_classes=0)
    theirs.load_state_dict(safetensors.torch.load_file(tmp_path / "b.safetensors"), strict=True)
    with pytest.raises(InputError, match=r"torchvision has no timm:.*; use --format timm"):
        export(network, info, file_format="torchvision", output=tmp_path / "b.pth")

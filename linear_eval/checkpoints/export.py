"""A backbone in the formats of other tools, each compared with the original before it is kept."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from linear_eval.backbones.architectures import backbone_to_fill
from linear_eval.backbones.backbone_file import save_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.backbones.timm_models import import_timm, is_timm
from linear_eval.backbones.vision_transformers import VISION_TRANSFORMERS
from linear_eval.checkpoints.onnx_file import onnx_bytes, run_onnx
from linear_eval.checkpoints.tensor_file import read_tensors
from linear_eval.system.atomic_file import atomic_file, check_output
from linear_eval.system.errors import InputError, require_matching_torch

Format = Literal["safetensors", "torchvision", "timm", "onnx"]
_TOLERANCE = 1e-4  # of the largest feature: other kernels round otherwise, a wrong key is far off
_PLAIN_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
# our name -> timm's, of networks that differ in their initial values alone
_SAME_IN_TIMM = {
    "vit_tiny_moco_v3": "vit_tiny_patch16_224",
    "vit_base_moco_v3": "vit_base_patch16_224",
}
_Run = Callable[[Path, Tensor], Tensor]


def export(backbone: nn.Module, info: BackboneInfo, *, file_format: Format, output: Path) -> None:
    """Write a backbone for another tool; the file is kept when its features are the backbone's.

    Args:
        backbone: put into eval mode, on the CPU.
        info: of the backbone.
        file_format: `safetensors`: our backbone file; `torchvision`: a state_dict for
            `torchvision.models.NAME` once its `fc` is `nn.Identity()`; `timm`: safetensors for
            `timm.create_model(NAME, num_classes=0)`; `onnx`: normalised images (N, 3, H, W) ->
            features (N, D), any N.
        output: the file to write.

    Raises:
        InputError: the tool has no such architecture, a package is missing, the file cannot be
            written, or its features differ; `output` is then as it was.
    """
    check_output(output, "--output", overwrite=True)  # the caller asked
    backbone = backbone.cpu().eval()
    if file_format == "safetensors":
        save_backbone(output, backbone, info)
    elif file_format == "torchvision":
        model = _torchvision_model(info.architecture)
        _write(output, _pickled(backbone), backbone, info, _runner(model, read_tensors))
    elif file_format == "timm":
        model = _timm_model(info.architecture)
        data = save(_tensors(backbone), metadata={"format": "pt"})
        _write(output, data, backbone, info, _runner(model, load_file))
    else:
        _write(output, onnx_bytes(backbone, info), backbone, info, run_onnx)


def _tensors(backbone: nn.Module) -> dict[str, Tensor]:
    state = backbone.state_dict()
    return {name: tensor.detach().contiguous().clone() for name, tensor in state.items()}


def _pickled(backbone: nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.save(_tensors(backbone), buffer)
    return buffer.getvalue()


def _torchvision_model(architecture: str) -> nn.Module:
    if architecture not in _PLAIN_RESNETS:
        instead = "timm" if is_timm(architecture) else "onnx"
        raise InputError(
            f"--format: torchvision has no {architecture}, expected one of "
            f"{', '.join(_PLAIN_RESNETS)}; use --format {instead}"
        )
    require_matching_torch()
    from torchvision import models

    model: nn.Module = getattr(models, architecture)()
    model.fc = nn.Identity()
    return model


def _timm_model(architecture: str) -> nn.Module:
    if is_timm(architecture):
        return backbone_to_fill(architecture)
    names = [*_PLAIN_RESNETS, *(name for name in VISION_TRANSFORMERS if name.endswith("_224"))]
    if architecture in _SAME_IN_TIMM:
        architecture = _SAME_IN_TIMM[architecture]
    if architecture not in names:
        raise InputError(
            f"--format: timm has no {architecture}, expected one of {', '.join(names)}; "
            "use --format onnx"
        )
    timm = import_timm("--format: timm checks what is written")
    model: nn.Module = timm.create_model(architecture, num_classes=0)
    return model


def _runner(model: nn.Module, read: Callable[[Path], dict[str, Tensor]]) -> _Run:
    def run(path: Path, images: Tensor) -> Tensor:
        model.load_state_dict(read(path), strict=True)
        with torch.inference_mode():
            features: Tensor = model.eval()(images)
        return features

    return run


def _write(output: Path, data: bytes, backbone: nn.Module, info: BackboneInfo, run: _Run) -> None:
    size = info.image_size
    # two images: a batch that is not what an ONNX graph was traced with
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = backbone(images)
    with atomic_file(output) as file:
        file.write(data)
        file.flush()
        features = run(Path(file.name), images)
        assert features.shape == expected.shape, (features.shape, expected.shape)
        furthest = float((features - expected).abs().max())
        if not furthest <= _TOLERANCE * float(expected.abs().max()):
            raise InputError(
                f"{output}: the exported file gives other features than the backbone (off by "
                f"{furthest:.3g}), nothing was kept; use --format safetensors, and report this"
            )

"""A backbone by name: a backbone file, or `timm:NAME` for timm's own pretrained weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval.backbones.backbone_file import (
    backbone_notes,
    check_forward,
    file_sha256,
    load_backbone,
)
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.backbones.tensors_digest import tensors_sha256
from linear_eval.backbones.timm_models import build_timm, import_timm, is_timm, timm_model

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, eq=False, kw_only=True)
class OpenedBackbone:
    """A backbone on the CPU, in eval mode and frozen, and what is known about it.

    Attributes:
        network: images (N, 3, H, W) -> features (N, D).
        info: how to feed it.
        sha256: of the file, or of the tensors where there is none.
        path: of the file; None where there is none.
        notes: lines for the user.
    """

    network: nn.Module
    info: BackboneInfo
    sha256: str
    path: Path | None = None
    notes: tuple[str, ...] = ()


def open_backbone(name: str | Path) -> OpenedBackbone:
    """Open a backbone file, or get timm's pretrained weights of `timm:NAME`.

    Raises:
        InputError: no sound backbone file; or timm is missing, has no such model, or cannot get
            its weights.
    """
    if is_timm(str(name)):
        return _open_timm(str(name))
    path = Path(name)
    network, info = load_backbone(path)
    return OpenedBackbone(
        network=network,
        info=info,
        sha256=file_sha256(path),
        path=path,
        notes=tuple(backbone_notes(path)),
    )


def _open_timm(name: str) -> OpenedBackbone:
    model = timm_model(name)
    network = build_timm(name, pretrained=True).float().eval().requires_grad_(False)
    version = import_timm(f"architecture: '{name}' needs timm").__version__
    info = BackboneInfo(
        architecture=model.name,
        feature_dim=model.width,
        image_size=model.image_size,
        mean=model.mean,
        std=model.std,
        provenance={"title": model.name, "source": f"timm {version}"},
    )
    check_forward(name, network, info)
    return OpenedBackbone(network=network, info=info, sha256=tensors_sha256(network.state_dict()))

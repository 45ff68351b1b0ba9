"""The frozen weights that the user names: checked, and as starts of pretraining."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from linear_eval.backbones.opened import open_backbone
from linear_eval.backbones.timm_models import is_timm
from linear_eval.system.errors import InputError
from ssl_bf.worth.recipes import Candidate

_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
_MOST_PIXELS = 128  # of views that start from large weights


def check_frozen(frozen: Sequence[str]) -> None:
    """Open each once.

    Raises:
        InputError: one is no backbone, or is named twice.
    """
    for name in frozen:
        if frozen.count(name) > 1:
            raise InputError(f"--frozen: {name} is named twice, expected each once; leave one out")
        try:
            open_backbone(name)
        except InputError as error:
            raise InputError(f"--frozen: {error}") from error


def starts(frozen: Sequence[str]) -> tuple[list[Candidate], list[str]]:
    """Candidates that go on from frozen weights, with and without BatchFormer; and notes.

    MoCo-v2 alone: more methods would take the time of those from scratch.

    Args:
        frozen: checked.
    """
    found, notes = [], []
    for name in frozen:
        info = open_backbone(name).info
        section = _section(info.architecture)
        if section is None:
            notes.append(f"{name}: {info.architecture} is judged, and not trained on")
            continue
        size = min(info.image_size, _MOST_PIXELS)
        found += [
            Candidate(
                method="moco_v2", with_relation=relation, init=name, backbone=section, size=size
            )
            for relation in (False, True)
        ]
    return found, notes


def _section(architecture: str) -> dict[str, Any] | None:
    """The section `backbone` of a config that builds an architecture; None where none does."""
    if is_timm(architecture):
        return {"name": "timm", "model": architecture.partition(":")[2]}
    sections = [
        {"name": "small_conv"},
        *({"name": name, "stem": stem} for name in _RESNETS for stem in ("imagenet", "cifar")),
    ]
    names = [section["name"] + "_cifar" * (section.get("stem") == "cifar") for section in sections]
    return dict(zip(names, sections, strict=True)).get(architecture)

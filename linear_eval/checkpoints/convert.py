"""The flow of `linear-eval convert`: a foreign checkpoint -> our backbone file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from linear_eval.backbones.architectures import (
    CIFAR_PADDINGS,
    COUNTER,
    expected_state,
    expected_tensors,
    feature_dim,
)
from linear_eval.backbones.backbone_file import (
    assemble_backbone,
    file_sha256,
    is_backbone_file,
    save_backbone,
)
from linear_eval.backbones.backbone_header import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MAX_IMAGE_SIZE,
    BackboneInfo,
)
from linear_eval.backbones.opened import open_backbone
from linear_eval.backbones.timm_models import Channels, is_timm, timm_model
from linear_eval.backbones.vision_transformers import TRAINED_SIZE, VISION_TRANSFORMERS, check_heads
from linear_eval.checkpoints.match import Match, match_backbone
from linear_eval.checkpoints.tensor_file import read_tensors
from linear_eval.system.atomic_file import check_output
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_EXACT = (torch.float32, torch.float16, torch.bfloat16)  # all of them are float32 numbers
_CIFAR_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What a checkpoint does not say about the images that it was trained on.

    None: what timm says of `timm:NAME`; else 224 pixels (32 for a CIFAR stem), ImageNet's colours.

    Attributes:
        size: pixels a side.
        mean: per channel, of images in [0, 1].
        std: per channel, > 0.
    """

    size: int | None = None
    mean: Channels | None = None
    std: Channels | None = None


def convert(
    checkpoint: Path, *, architecture: str, output: Path, images: ImageFacts, overwrite: bool
) -> None:
    """Write the backbone of a foreign checkpoint as our backbone file, and print what was done.

    Raises:
        InputError: the file cannot be read without running code, is no whole `architecture` in a
            known layout, or holds tensors of no known group; nothing was written.
    """
    width = feature_dim(architecture)
    size, mean, std = _image_facts(architecture, images)
    _check_output(checkpoint, output, overwrite=overwrite)
    if is_backbone_file(checkpoint):
        raise InputError(
            f"{checkpoint}: is a backbone file already, expected a checkpoint of another project; "
            "give the file to the commands as it is"
        )
    tensors = read_tensors(checkpoint)
    match = _find(checkpoint, tensors, architecture)
    backbone = assemble_backbone(architecture, _take(checkpoint, tensors, match, architecture))
    provenance = {
        "title": checkpoint.stem.removesuffix(".pth").removesuffix(".pt"),
        "source": checkpoint.name,
        "source_sha256": file_sha256(checkpoint),
        "layout": match.layout.name,
        "prefix": match.root,
        "names": match.dialect.name,
        "dropped": match.dropped,
    }
    info = BackboneInfo(
        architecture=architecture,
        feature_dim=width,
        image_size=size,
        mean=mean,
        std=std,
        provenance=provenance,
    )
    save_backbone(output, backbone, info)
    _print_summary(match, info, output)


def convert_timm(name: str, *, output: Path, overwrite: bool) -> None:
    """Write timm's pretrained weights of `timm:NAME` as our backbone file.

    Raises:
        InputError: timm is missing, has no such model, or cannot get its weights; `output` exists.
    """
    check_output(output, "--output", overwrite=overwrite)
    opened = open_backbone(name)
    save_backbone(output, opened.network, opened.info)
    print(f"used: the weights of {opened.info.architecture} (D = {opened.info.feature_dim})")
    print(f"written: {output}")


def _image_facts(architecture: str, images: ImageFacts) -> tuple[int, Channels, Channels]:
    """Size, mean and std: what was given, else the architecture's own."""
    has_cifar_stem = any(architecture.endswith(suffix) for suffix in CIFAR_PADDINGS)
    size, mean, std = _CIFAR_SIZE if has_cifar_stem else TRAINED_SIZE, IMAGENET_MEAN, IMAGENET_STD
    shape = VISION_TRANSFORMERS.get(architecture)
    if shape is not None:
        size = shape.size
    if is_timm(architecture):
        model = timm_model(architecture)
        size, mean, std = model.image_size, model.mean, model.std
    size, mean, std = images.size or size, images.mean or mean, images.std or std
    if not 1 <= size <= MAX_IMAGE_SIZE:
        raise InputError(f"--image-size: must be between 1 and {MAX_IMAGE_SIZE}, got {size}")
    if shape is not None and size % shape.patch:
        raise InputError(
            f"--image-size: {size} is no multiple of the patch of {architecture}; "
            f"give a multiple of {shape.patch}"
        )
    if min(std) <= 0:
        raise InputError(f"--std: must be above 0, got {std}; give three numbers like 0.229")
    return size, mean, std


def _check_output(checkpoint: Path, output: Path, *, overwrite: bool) -> None:
    reads = {"the checkpoint itself": [checkpoint]}
    check_output(output, "--output", overwrite=overwrite, reads=reads)


def _find(checkpoint: Path, tensors: dict[str, Tensor], architecture: str) -> Match:
    try:
        match = match_backbone(tensors, expected_tensors(architecture), architecture)
        check_heads(architecture, {ours: tensors[name] for ours, name in match.used.items()})
    except InputError as error:
        raise InputError(f"{checkpoint}: {error}") from error
    return match


def _take(
    checkpoint: Path, tensors: dict[str, Tensor], match: Match, architecture: str
) -> dict[str, Tensor]:
    """The backbone's tensors under our names, every one checked."""
    taken, expected = {}, expected_state(architecture)
    for ours, name in match.used.items():
        tensor, wanted = tensors[name], expected[ours].dtype
        exact = _EXACT if wanted == torch.float32 else (wanted,)
        if tensor.layout != torch.strided or tensor.dtype not in exact:
            raise InputError(
                f"{checkpoint}: {name} is {tensor.dtype}, {tensor.layout}, expected float32, "
                "float16 or bfloat16 rows, which are taken over exactly; save it as float32"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"{checkpoint}: {name} holds NaN or infinite values; the weights are broken, "
                "give a checkpoint of a run that converged"
            )
        taken[ours] = tensor
    for ours in expected:
        if ours not in taken and ours.endswith(COUNTER):
            taken[ours] = torch.zeros((), dtype=torch.int64)
    return taken


def _print_summary(match: Match, info: BackboneInfo, output: Path) -> None:
    print(f"layout: {match.layout.name}; backbone at '{match.root}', {match.dialect.name}")
    print(f"used: {len(match.used)} tensors as {info.architecture} (D = {info.feature_dim})")
    groups = ", ".join(f"{group} {count}" for group, count in match.dropped.items())
    print(f"dropped: {groups or 'nothing'}")
    mean, std = (",".join(f"{number:g}" for number in each) for each in (info.mean, info.std))
    print(
        f"images: --image-size {info.image_size} --mean {mean} --std {std}; "
        "a checkpoint does not say, so give them if it was trained otherwise"
    )
    print(f"written: {output}")

"""Which architectures there are, with one line each."""

from __future__ import annotations

from fnmatch import fnmatchcase

import torch

from linear_eval.backbones.architectures import (
    ARCHITECTURES,
    CIFAR_PADDINGS,
    build_backbone,
    feature_dim,
)
from linear_eval.backbones.cifar_resnet import CIFAR_BLOCKS
from linear_eval.backbones.timm_models import PREFIX, import_timm, is_timm, timm_model
from linear_eval.backbones.vision_transformers import TRAINED_SIZE, VISION_TRANSFORMERS
from linear_eval.system.errors import InputError

SMALL_SIZE = 32  # of CIFAR's images, which small networks are for
TIMM_LINE = (
    f"{PREFIX}NAME  any model of timm, such as {PREFIX}resnet50d or, with the tag of its weights, "
    f"{PREFIX}resnet50.a1_in1k; linear-eval architectures '{PREFIX}*resnet*' lists some"
)


def matching(pattern: str) -> list[str]:
    """Names that a shell pattern fits; those of timm where it begins with `timm:`.

    Raises:
        InputError: none does, or timm is missing.
    """
    if is_timm(pattern):
        timm = import_timm(f"'{pattern}' needs timm")
        found = [PREFIX + name for name in timm.list_models(pattern.removeprefix(PREFIX))]
    else:
        found = [name for name in ARCHITECTURES if fnmatchcase(name, pattern)]
    if not found:
        raise InputError(
            f"{pattern}: fits no architecture, expected one such as 'resnet*' or 'timm:*resnet*'; "
            "`linear-eval architectures` lists all but timm's"
        )
    return found


def described(architecture: str) -> str:
    """Width of the features, usual size of the images and number of parameters, in words."""
    try:
        width = feature_dim(architecture)
        size, parameters = _usual_size(architecture), _num_parameters(architecture)
    except InputError as error:  # a model that gives no features, or a package that is missing
        return str(error)
    return f"D = {width:4}, {size:4} px, {parameters / 1e6:6.2f}M parameters"


def _usual_size(architecture: str) -> int:
    if is_timm(architecture):
        return timm_model(architecture).image_size
    if architecture in VISION_TRANSFORMERS:
        return VISION_TRANSFORMERS[architecture].size
    is_small = architecture in ("small_conv", *CIFAR_BLOCKS)
    is_small |= architecture.endswith(tuple(CIFAR_PADDINGS))
    return SMALL_SIZE if is_small else TRAINED_SIZE


def _num_parameters(architecture: str) -> int:
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = build_backbone(architecture)
    return sum(parameter.numel() for parameter in network.parameters())

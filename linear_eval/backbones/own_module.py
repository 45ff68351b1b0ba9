"""A network of somebody's own code as a backbone: no name here builds it, so it comes as a module.

Shapes: N images of S x S pixels, D feature width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from linear_eval.backbones.architectures import CUSTOM
from linear_eval.backbones.backbone_header import MAX_IMAGE_SIZE, BackboneInfo
from linear_eval.system.errors import InputError
from linear_eval.system.printable import one_line

if TYPE_CHECKING:
    from torch import Tensor, nn


def architecture_of(module: nn.Module) -> str:
    """`custom:` and the name of the class: what its backbone file says of it."""
    return CUSTOM + type(module).__name__


def info_of_module(
    module: nn.Module, *, mean: Sequence[float], std: Sequence[float], size: int
) -> BackboneInfo:
    """What a backbone file of the module would say.

    Args:
        module: normalised images (N, 3, S, S) -> (N, D); tried with two black images.
        mean: per channel, of images in [0, 1].
        std: per channel, > 0.
        size: S.

    Raises:
        InputError: one of these is wrong, or the module gives no rows of features.
    """
    for name, values in (("mean", mean), ("std", std)):
        if not isinstance(values, list | tuple):
            raise InputError(f"{name}: {values!r}, expected three numbers, one per colour")
        if len(values) != 3 or not all(math.isfinite(each) for each in values):
            raise InputError(f"{name}: {list(values)}, expected three numbers, one per colour")
    if max(*mean, *std) > 1:
        raise InputError(
            f"mean: {list(mean)} with std {list(std)}, expected those of images in [0, 1]; divide "
            "by 255"
        )
    if min(std) <= 0:
        raise InputError(f"std: {list(std)}, expected three numbers > 0")
    if not isinstance(size, int):
        raise InputError(f"size: {size!r}, expected one whole number of pixels")
    if not 1 <= size <= MAX_IMAGE_SIZE:
        raise InputError(f"size: {size}, expected 1 to {MAX_IMAGE_SIZE} pixels")
    return BackboneInfo(
        architecture=architecture_of(module),
        feature_dim=width_of(module, size),
        image_size=size,
        mean=(float(mean[0]), float(mean[1]), float(mean[2])),
        std=(float(std[0]), float(std[1]), float(std[2])),
        provenance={"title": type(module).__name__},
    )


def width_of(module: nn.Module, size: int) -> int:
    """D, from a forward of two black images in eval mode; the modes are restored after it.

    Raises:
        InputError: it cannot take such images, or gives no (2, D) floats.
    """
    name = type(module).__name__
    modes = [(each, each.training) for each in module.modules()]
    weight = next(module.parameters(), None)
    images = torch.zeros(2, 3, size, size, device=None if weight is None else weight.device)
    module.eval()
    try:
        with torch.no_grad():
            features = module(images)
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"backbone: {name} cannot take images (2, 3, {size}, {size}) "
            f"({one_line(str(error))[:120]}), expected (N, 3, H, W) -> (N, D); look at its forward"
        ) from error
    finally:
        for each, training in modes:
            each.training = training
    if not isinstance(features, torch.Tensor) or features.ndim != 2 or len(features) != 2:
        shape = tuple(getattr(features, "shape", ())) or type(features).__name__
        raise InputError(
            f"backbone: {name} makes {shape} of two images, expected features (2, D); pool and "
            "flatten them"
        )
    return features.shape[1]


def expected_of(module: nn.Module) -> dict[str, Tensor]:
    """Every tensor that a file of this module holds.

    Raises:
        InputError: its state is not tensors alone.
    """
    state: dict[str, Tensor] = module.state_dict()
    if others := [name for name, value in state.items() if not isinstance(value, torch.Tensor)]:
        raise InputError(
            f"backbone: the state of {type(module).__name__} has more than tensors ({others[0]}), "
            "expected tensors alone; leave get_extra_state out"
        )
    return state


def filled(module: nn.Module, tensors: dict[str, Tensor]) -> nn.Module:
    """A copy of the module on the CPU with these tensors, in eval mode and frozen."""
    network = copy.deepcopy(module).cpu()
    network.load_state_dict(tensors, strict=True)
    return network.eval().requires_grad_(False)

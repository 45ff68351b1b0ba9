"""AutoAugment's policy for CIFAR: two operations per image, one pair out of 25.

Source: Cubuk et al. 2019 (arXiv 1805.09501), the CIFAR-10 policy of its appendix. Every operation
is torchvision's, on bytes, with its ranges; pixels that come into the image are black. Images that
need the same operation go through it together. Shapes: N images, H x W pixels.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

BINS = 10  # strengths of an operation
# Of each pair twice: operation, probability, number of its strength (those without one: 0).
POLICIES: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("Invert", 0.1, 0), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, 0), ("Equalize", 0.9, 0)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, 0), ("Equalize", 0.5, 0)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, 0), ("AutoContrast", 0.4, 0)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, 0)),
    (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.2, 0), ("Equalize", 0.6, 0)),
    (("Color", 0.9, 9), ("Equalize", 0.6, 0)),
    (("AutoContrast", 0.8, 0), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 0)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, 0), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, 0), ("Invert", 0.1, 0)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 0)),
)
_LARGEST = {  # of operations whose sign is drawn as well; a shift is a share of the side
    **{"ShearX": 0.3, "ShearY": 0.3, "TranslateX": 150 / 331, "TranslateY": 150 / 331},
    **{"Rotate": 30.0, "Brightness": 0.9, "Color": 0.9, "Contrast": 0.9, "Sharpness": 0.9},
}
DRAWS = 5  # uniform numbers for an image


@dataclass(frozen=True, eq=False)
class AutoAugments:
    """What AutoAugment does to N images; tensors on the CPU.

    Attributes:
        policy: (N,) int64, a row of `POLICIES`.
        applied: (N, 2) bool, whether each of its operations is.
        negative: (N, 2) bool, the sign of operations that have one.
    """

    policy: Tensor
    applied: Tensor
    negative: Tensor

    @classmethod
    def drawn(cls, uniforms: Tensor) -> AutoAugments:
        """From (N, `DRAWS`) in [0, 1)."""
        policy = (uniforms[:, 0] * len(POLICIES)).long()
        likely = torch.tensor([[first[1], second[1]] for first, second in POLICIES])[policy]
        return cls(policy, uniforms[:, 1:3] < likely, uniforms[:, 3:5] < 0.5)

    def __getitem__(self, rows: slice) -> AutoAugments:
        """Those of some of the images."""
        return AutoAugments(self.policy[rows], self.applied[rows], self.negative[rows])

    def apply(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 -> the same shape, uint8, new memory."""
        images = images.clone()
        for turn in range(2):
            for (operation, strength), rows in self._groups(turn, images.shape[-1]).items():
                index = torch.tensor(rows).to(images.device, non_blocking=True)
                images[index] = operate(images[index], operation, strength)
        return images

    def _groups(self, turn: int, side: int) -> dict[tuple[str, float], list[int]]:
        """Rows by the operation and strength of their first or second turn."""
        groups = defaultdict(list)
        columns = zip(
            self.policy.tolist(),
            self.applied[:, turn].tolist(),
            self.negative[:, turn].tolist(),
            strict=True,
        )
        for row, (policy, applied, negative) in enumerate(columns):
            operation, _, number = POLICIES[policy][turn]
            if applied:
                groups[operation, strength_of(operation, number, side, negative)].append(row)
        return groups


def strength_of(operation: str, number: int, side: int, negative: bool) -> float:
    """What the operation is given: `number` of `BINS` between nothing and all; 0 if nothing."""
    share = number / (BINS - 1)
    if operation == "Posterize":
        return 8 - round(4 * share)
    if operation == "Solarize":
        return 255 * (BINS - 1 - number) / (BINS - 1)  # whole where it is on paper
    largest = _LARGEST.get(operation, 0.0) * (side if operation.startswith("Translate") else 1)
    return -largest * share if negative else largest * share


# operation -> torchvision's function
_FACTORS = {
    "Brightness": "adjust_brightness",
    "Color": "adjust_saturation",
    "Contrast": "adjust_contrast",
    "Sharpness": "adjust_sharpness",
}
_WITHOUT_STRENGTH = {"AutoContrast": "autocontrast", "Equalize": "equalize", "Invert": "invert"}


def operate(images: Tensor, operation: str, strength: float) -> Tensor:
    """One operation to all images, (N, 3, H, W) uint8 -> the same."""
    functional, changed = _functional(), None
    if operation in _FACTORS:
        changed = getattr(functional, _FACTORS[operation])(images, 1 + strength)
    elif operation in _WITHOUT_STRENGTH:
        changed = getattr(functional, _WITHOUT_STRENGTH[operation])(images)
    elif operation == "Posterize":
        changed = functional.posterize(images, int(strength))
    elif operation == "Solarize":
        changed = functional.solarize(images, strength)
    elif operation == "Rotate":
        changed = functional.rotate(images, strength)
    elif operation.startswith("Translate"):
        shift = int(strength)
        changed = _moved(images, [shift, 0] if operation == "TranslateX" else [0, shift], [0.0, 0])
    else:
        angle = math.degrees(math.atan(strength))
        changed = _moved(
            images, [0, 0], [angle, 0] if operation == "ShearX" else [0, angle], [0, 0]
        )
    assert isinstance(changed, Tensor), operation
    return changed


def _moved(
    images: Tensor, shift: list[int], shear: Sequence[float], centre: list[int] | None = None
) -> Tensor:
    moved: Tensor = _functional().affine(
        images, angle=0.0, translate=shift, scale=1.0, shear=list(shear), center=centre
    )
    return moved


@cache
def _functional() -> Any:
    from torchvision.transforms import functional  # lazy: most recipes do without

    return functional

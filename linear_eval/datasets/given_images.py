"""One image that a Python program hands in -> RGB pixels in bytes.

Shapes: N images, H x W pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from linear_eval.datasets.colour_forms import UnreadableForm, rgb_pixels
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_EXPECTED = (
    "expected a PIL image, or a tensor (3, H, W) of uint8 or of floats in [0, 1]; leave Normalize "
    "and the like out of its transform"
)


def as_pixels(image: Any, where: str) -> Tensor:
    """The pixels of an image.

    Args:
        image: a PIL image (see `rgb_pixels` for its colours), or a tensor (3, H, W) of uint8, or of
            floats in [0, 1], which are rounded to 255ths.
        where: how messages call it.

    Returns:
        (3, H, W) uint8 on the CPU.

    Raises:
        InputError: it is anything else.
    """
    if isinstance(image, Image.Image):
        try:
            return torch.from_numpy(rgb_pixels(image)).permute(2, 0, 1)
        except UnreadableForm as error:
            raise InputError(f"{where}: {error}; convert it to RGB") from error
    if not isinstance(image, torch.Tensor) or image.ndim != 3 or not _has_colours(image):
        raise InputError(f"{where}: is {kind_of(image)}, {_EXPECTED}")
    return _in_bytes(image, where)


def as_pixels_of_all(images: Tensor, where: str) -> Tensor:
    """The same for a tensor (N, 3, H, W)."""
    if images.ndim != 4 or not _has_colours(images):
        raise InputError(
            f"{where}: is {kind_of(images)}, expected (N, 3, H, W) of uint8 or of floats in [0, 1];"
            " give it as such"
        )
    return _in_bytes(images, where)


def require(name: str, thing: Any, kinds: type | tuple[type, ...], expected: str) -> None:
    """Refuse an argument of another type; True and False are no numbers.

    Raises:
        InputError: what it is, and what is expected.
    """
    if not isinstance(thing, kinds) or isinstance(thing, bool):
        raise InputError(f"{name}: is {kind_of(thing)}, expected {expected}")


def kind_of(thing: Any) -> str:
    """What something is, for a message: its type, of tensors and arrays also shape and dtype."""
    name = type(thing).__name__
    shape, dtype = getattr(thing, "shape", None), getattr(thing, "dtype", None)
    if shape is None or dtype is None:
        return f"a {name}"
    return f"a {name} {tuple(shape)} of {str(dtype).removeprefix('torch.')}"


def _has_colours(images: Tensor) -> bool:
    is_known = images.dtype == torch.uint8 or images.dtype.is_floating_point
    return is_known and images.shape[-3] == 3 and images.numel() > 0


def _in_bytes(images: Tensor, where: str) -> Tensor:
    images = images.detach().cpu()
    if images.dtype == torch.uint8:
        return images
    low, high = (float(each) for each in images.aminmax())
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise InputError(f"{where}: has values from {low:.3g} to {high:.3g}, {_EXPECTED}")
    return (images.float() * 255).round().to(torch.uint8)

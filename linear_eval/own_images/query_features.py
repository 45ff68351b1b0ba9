"""Query images -> features, seen as the images of the index were.

Shapes: Q queries, D feature width, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from linear_eval.datasets.decode import BadImageError, decode_image
from linear_eval.datasets.decoding import Decoding
from linear_eval.features.rows import require_finite, unit_rows
from linear_eval.features.table import Embed
from linear_eval.images.batches import EvalImages
from linear_eval.own_images.image_index import IndexManifest
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable

if TYPE_CHECKING:
    from torch import Tensor


def read_query(path: Path, decoding: Decoding) -> Tensor:
    """The pixels of a query image, (3, H, W) uint8.

    Raises:
        InputError: there is none, or it cannot be decoded.
    """
    if path.is_dir():
        raise InputError(
            f"{printable(str(path))}: is a folder, expected an image; give its files, such as "
            f"{printable(str(path / '*.jpg'))}"
        )
    if not path.exists():
        raise InputError(f"{printable(str(path))}: no such file; give the path of an image")
    try:
        return decode_image(path, str(path), decoding)
    except BadImageError as error:
        problem = str(error).rpartition("; ")[0]  # what follows is about data sets
        is_large = "data.max_pixels" in str(error)
        remedy = "give --max-pixels N" if is_large else "give the path of an image"
        raise InputError(f"{problem}; {remedy}") from error


def query_features(
    images: Iterable[tuple[str, Tensor]], manifest: IndexManifest, embed: Embed, notes: list[str]
) -> Tensor:
    """Unit rows (Q, D) on the CPU, of images seen as the indexed ones were.

    Args:
        images: the name and the pixels (3, H, W) uint8 of each.
        manifest: of the index.
        embed: the backbone that it was made with.
        notes: gets a line for each image that is not of the size of the indexed ones.

    Raises:
        InputError: an image does not fit, or a feature is not finite.
    """
    transform = EvalImages(manifest.images["resize"], manifest.images["crop"])
    height, width = manifest.images["pixels"]
    rows = []
    for name, image in images:
        seen = transform.apply(image[None])
        if seen.shape[-2:] != (height, width):
            seen = _as_indexed(seen, name, height, width, notes)
        rows.append(embed(seen).float().cpu())
    features = torch.cat(rows)
    require_finite(features, "query features")
    return unit_rows(features)


def _as_indexed(image: Tensor, name: str, height: int, width: int, notes: list[str]) -> Tensor:
    """An image at the size of the indexed ones, which were all of one size."""
    name = printable(name)
    if height != width:
        raise InputError(
            f"{name}: has {image.shape[-1]} x {image.shape[-2]} pixels, expected {width} x {height}"
            " as the indexed images; crop it, or make the index with images.resize and images.crop"
        )
    notes.append(f"{name}: resized to {width} x {height} pixels, as the indexed images have")
    return EvalImages(resize=height, crop=height).apply(image)

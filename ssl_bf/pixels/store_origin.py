"""Whether a packed store was made of the present images, read and prepared in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.image_files import few
from linear_eval.features.stored_contents import changed_images, others_now
from linear_eval.system.errors import InputError
from ssl_bf.pixels.preparation import Preparation
from ssl_bf.pixels.source import Source

ANEW = "pack into another folder, or delete this one"
_AS_STORED = "data.orientation=stored"  # what is meant where nothing is said


def check_origin(
    place: Path, manifest: Mapping[str, Any], names: Mapping[str, int], source: Source
) -> None:
    """Refuse a store of other names, labels or sizes, or of files read in another way.

    Raises:
        InputError: names, labels, sizes or decoding differ.
    """
    if manifest["source"] != source.fingerprint:
        unknown = sorted(set(source.split.ids).difference(names))
        raise InputError(
            f"{place}: was packed from other images than those now at data.root, "
            + (f"it lacks {few(unknown)}" if unknown else "in number, name, label or file size")
            + f"; {ANEW}"
        )
    if manifest.get("decoding", "") != source.split.decoding:
        packed, wanted = (
            each or _AS_STORED for each in (manifest.get("decoding", ""), source.split.decoding)
        )
        raise InputError(
            f"{place}: was packed with {packed}, expected {wanted} as asked for now; ask for what "
            f"was packed, or {ANEW}"
        )


def check_contents(
    place: Path, digests: Tensor | None, row_of: Mapping[str, int], split: ImageSplit
) -> bool:
    """Whether the files are known to be those that were packed.

    Raises:
        InputError: some hold something else by now.
    """
    if split.contents is None:
        return True
    if digests is None:
        return False
    here = torch.tensor([row for row, name in enumerate(split.ids) if name in row_of]).long()
    places = torch.tensor([row_of[split.ids[row]] for row in here.tolist()]).long()
    changed = changed_images(place, digests[places], split.contents.select(here), places)
    if len(changed):
        raise InputError(
            f"{place}: was packed from other images than those now at data.root: "
            f"{others_now(here[changed], split.ids)}; {ANEW}"
        )
    return True


def check_preparation(place: Path, manifest: Mapping[str, Any], preparation: Preparation) -> None:
    """Refuse a store of images that were prepared in another way.

    Raises:
        InputError: the preparation differs.
    """
    for name, wanted in asdict(preparation).items():
        if manifest[name] != wanted:
            raise InputError(
                f"{place}: was packed with views.{name}={_shown(manifest[name])}, expected "
                f"{_shown(wanted)}; set views.{name} to what was packed, or {ANEW}"
            )


def _shown(value: object) -> str:
    return "null" if value is None else str(value)

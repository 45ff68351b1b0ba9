"""From the command line to features: a backbone file, a data argument, one of its splits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from linear_eval.backbone_file import BackboneInfo, file_sha256, load_backbone
from linear_eval.config import EvaluateConfig
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.selection import limit_images
from linear_eval.errors import InputError
from linear_eval.feature_store import file_weights
from linear_eval.features import FeatureTable, frozen
from linear_eval.images import ImageBatches
from linear_eval.strict_config import LoadedConfig, load_config, parse_config

SplitName = Literal["train", "test"]


@dataclass(frozen=True, eq=False, kw_only=True)
class SplitFeatures:
    """Features of a split, and where they come from.

    Attributes:
        table: of the images that could be read.
        split: all of its images.
        config: the whole configuration.
        backbone: what its header says.
        backbone_sha256: of the backbone file.
        pixels: height and width of what the backbone saw.
        notes: lines for the user.
    """

    table: FeatureTable
    split: ImageSplit
    config: EvaluateConfig
    backbone: BackboneInfo
    backbone_sha256: str
    pixels: tuple[int, int]
    notes: list[str]


def extract_split(
    backbone: Path, data: str, overrides: Sequence[str], *, split_name: SplitName
) -> SplitFeatures:
    """Run a backbone over one split.

    Args:
        backbone: a backbone file.
        data: a config (path or packaged name), or a folder of images.
        overrides: `key=value` texts.
        split_name: which split; train is cut to data.max_images.

    Raises:
        InputError: any of these is wrong.
    """
    network, info = load_backbone(backbone)
    loaded = _load(backbone, data, overrides, info)
    config = loaded.value
    device = config.speed.open_device()
    split = _open_split(config, split_name)
    batches = ImageBatches(
        split=split,
        images=config.transform(),
        batch_size=config.batch_size,
        on_bad_image=config.data.on_bad_image,
    )
    sha256 = file_sha256(backbone)
    store = config.features.open(backbone)
    with frozen(network, mean=info.mean, std=info.std, device=device) as embed:
        table = store.table(file_weights(sha256), embed, batches, split_name)
    notes = list(loaded.notes)
    if table.read_from:
        notes.append(f"features: read from {table.read_from}")
    if skipped := len(split) - len(table.ids):
        notes.append(f"{skipped} of {len(split)} images could not be read and were skipped")
    return SplitFeatures(
        table=table,
        split=split,
        config=config,
        backbone=info,
        backbone_sha256=sha256,
        pixels=batches.one_size(),
        notes=notes,
    )


def _load(
    backbone: Path, data: str, overrides: Sequence[str], info: BackboneInfo
) -> LoadedConfig[EvaluateConfig]:
    given = ["backbone=" + json.dumps(str(backbone)), *overrides]
    if not Path(data).is_dir():
        return load_config(EvaluateConfig, data, given, packaged="evaluate")
    folder: dict[str, Any] = {"data": {"name": "image_folder", "root": data}}
    if not any(text.startswith(("images.", "image_size=")) for text in overrides):
        folder["image_size"] = info.image_size  # a folder says nothing about sizes; the file does
    return parse_config(EvaluateConfig, folder, given)


def _open_split(config: EvaluateConfig, split_name: SplitName) -> ImageSplit:
    if split_name == "test":
        split = config.data.open_test()
    else:
        split = limit_images(config.data.open_train(), config.data.max_images)
    if not len(split):
        raise InputError(f"data: the {split_name} split is empty; look at data.root")
    return split

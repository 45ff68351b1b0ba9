"""From the command line to features: a backbone file, a data argument, one of its splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from linear_eval.backbone_file import BackboneInfo, file_sha256, load_backbone
from linear_eval.config import EvaluateConfig
from linear_eval.data_argument import SplitName, load_data_argument, open_split
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.feature_store import file_weights
from linear_eval.features import FeatureTable, frozen
from linear_eval.images import ImageBatches


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
    loaded = load_data_argument(backbone, data, overrides, info)
    config = loaded.value
    device = config.speed.open_device()
    split = open_split(config, split_name)
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
    notes += store.remarks()
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

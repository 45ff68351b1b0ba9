"""From the command line to features: a backbone file, a data argument, one of its splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from linear_eval.backbones.backbone_file import backbone_notes, file_sha256, load_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.evaluation.config import EvaluateConfig
from linear_eval.features.store import file_weights
from linear_eval.features.table import Embed, FeatureTable, frozen, not_checked
from linear_eval.images.batches import ImageBatches
from linear_eval.own_images.data_argument import SplitName, load_data_argument, open_split
from linear_eval.system.atomic_file import check_outside

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, eq=False, kw_only=True)
class BackboneAndSplit:
    """A backbone and the images it is to look at, opened and checked.

    Attributes:
        network: the backbone.
        info: what its header says.
        config: the whole configuration.
        device: where to compute.
        batches: of all images of the split.
        notes: lines for the user.
    """

    network: nn.Module
    info: BackboneInfo
    config: EvaluateConfig
    device: torch.device
    batches: ImageBatches
    notes: list[str]

    @contextmanager
    def embedding(self) -> Iterator[Embed]:
        """The backbone as a function of images."""
        mean, std = self.info.mean, self.info.std
        with frozen(self.network, mean=mean, std=std, device=self.device) as embed:
            yield self.config.speed.fastest(embed, self.device)

    def notes_on(self, table: FeatureTable) -> list[str]:
        """All notes for the user, after extraction."""
        notes, count = list(self.notes), len(self.batches.split)
        if table.read_from:
            notes.append(f"features: read from {table.read_from}")
        if table.read_from and not table.is_checked:
            notes.append(f"features: {not_checked(table.read_from)}")
        if skipped := count - len(table.ids):
            notes.append(f"{skipped} of {count} images could not be read and were skipped")
        return notes


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

    @property
    def content(self) -> str | None:
        """Identity of the split by content; None where an earlier version stored its features."""
        return self.split.content_fingerprint() if self.table.is_checked else None


def open_backbone_and_split(
    backbone: Path, data: str, overrides: Sequence[str], *, split_name: SplitName
) -> BackboneAndSplit:
    """Open what a command line names.

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
    split = open_split(config, split_name)
    config.features.check_outside(split.folder)
    return BackboneAndSplit(
        network=network,
        info=info,
        config=config,
        device=config.speed.open_device(),
        batches=ImageBatches(
            split=split,
            images=config.transform(),
            batch_size=config.batch_size,
            on_bad_image=config.data.on_bad_image,
            max_bad=config.data.max_bad,
        ),
        notes=[*loaded.notes, *backbone_notes(backbone)],
    )


def extract_split(
    backbone: Path,
    data: str,
    overrides: Sequence[str],
    *,
    split_name: SplitName,
    output: Path | None = None,
) -> SplitFeatures:
    """Run a backbone over one split; arguments and errors of `open_backbone_and_split`.

    `output`, the folder that will be written, must not lie among the images.
    """
    opened = open_backbone_and_split(backbone, data, overrides, split_name=split_name)
    if output is not None:
        check_outside(output, opened.batches.split.folder, "--output")
    sha256 = file_sha256(backbone)
    store = opened.config.features.open(backbone)
    with opened.embedding() as embed:
        table = store.table(file_weights(sha256), embed, opened.batches, split_name)
    return SplitFeatures(
        table=table,
        split=opened.batches.split,
        config=opened.config,
        backbone=opened.info,
        backbone_sha256=sha256,
        pixels=opened.batches.one_size(),
        notes=[*opened.notes_on(table), *store.remarks()],
    )

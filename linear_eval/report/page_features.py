"""Features of the judged backbone on the images of its evaluation, mostly read from the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from linear_eval.backbones.backbone_file import load_backbone
from linear_eval.features.store import file_weights
from linear_eval.features.table import FeatureTable, frozen
from linear_eval.images.batches import ImageBatches
from linear_eval.report.pictures import AbsentImagesError, Pictures
from linear_eval.report.run_files import BACKBONE, Run
from linear_eval.results.results_file import Results
from linear_eval.system.atomic_file import file_sha256

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class PageFeatures:
    """Tables of the judged backbone.

    Attributes:
        test: of the test images.
        gallery: of train, and of its hold-out if there is one.
    """

    test: FeatureTable
    gallery: tuple[FeatureTable, ...]

    @property
    def gallery_features(self) -> tuple[Tensor, ...]:
        """As a search takes them."""
        return tuple(part.features for part in self.gallery)


def open_features(
    results: Results, runs: Sequence[Run], pictures: Pictures, device: torch.device
) -> PageFeatures:
    """Features as the evaluation had them; what is not stored is computed, and kept.

    Args:
        results: of the evaluation.
        runs: whose backbone files are looked at.
        pictures: its images.
        device: where a backbone runs.

    Raises:
        AbsentImagesError: no backbone file with the digest of the results is found.
        InputError: an image cannot be read.
    """
    digest = results.backbone.get("sha256")
    path = _find(digest, results, runs)
    network, info = load_backbone(path)
    config = pictures.config
    store = config.features.open(path)
    with frozen(network, mean=info.mean, std=info.std, device=device) as embed:
        tables = {
            name: store.table(
                file_weights(str(digest)),
                embed,
                ImageBatches(
                    split=split,
                    images=config.transform(),
                    batch_size=config.batch_size,
                    on_bad_image=config.data.on_bad_image,
                ),
                f"report: {name}",
            )
            for name, split in pictures.splits.parts.items()
            if name in ("train", "holdout", "test")
        }
    gallery = tuple(tables[name] for name in ("train", "holdout") if name in tables)
    return PageFeatures(tables["test"], gallery)


def _find(digest: str | None, results: Results, runs: Sequence[Run]) -> Path:
    if digest is None:
        raise AbsentImagesError("what was judged has no backbone file")
    own = results.path.parent / BACKBONE
    files = [run.backbone for run in runs if run.backbone] + ([own] if own.is_file() else [])
    for path in files:
        if file_sha256(path) == digest:
            return path
    raise AbsentImagesError(
        "the backbone file that was judged is not at hand; name its run directory as well"
    )

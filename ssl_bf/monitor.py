"""The online k-NN monitor: is the backbone getting better, judged on held-out training images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.overlap import overlap_note
from linear_eval.evaluators.knn import knn_top1
from linear_eval.features.table import FeatureTable, collect_features, frozen
from linear_eval.images.batches import EvalImages, ImageBatches
from ssl_bf.views.recipes import ViewsConfig

K = 20
BATCH_SIZE = 256


@dataclass(frozen=True, eq=False)
class Monitor:
    """k-NN top-1 of the hold-out against a gallery of training images; never a test split."""

    gallery: ImageSplit
    holdout: ImageSplit
    views: ViewsConfig
    device: torch.device
    on_bad_image: Literal["error", "skip"] = "error"
    _noted: list[str] = field(default_factory=list, init=False)

    def new_notes(self) -> list[str]:
        """Once: a line where the hold-out shares images with the gallery."""
        if self._noted:
            return []
        for split in (self.gallery, self.holdout):
            if split.contents is not None:
                split.contents.digests()  # reads what was not read with its digest noted
        note = overlap_note([self.gallery], self.holdout, ("the gallery", "hold-out"))
        self._noted.append(note or "")
        return [f"monitor: {note}"] if note else []

    def __call__(self, backbone: nn.Module) -> float:
        """Percent of hold-out images that the weighted vote of 20 neighbours names correctly.

        The backbone runs in eval mode and keeps its own mode afterwards. Images are resized so
        that their centre fills the training size; a small gallery lowers the number, so compare
        it within a run only.
        """
        gallery, holdout = (
            self._features(backbone, self.gallery),
            self._features(backbone, self.holdout),
        )
        return knn_top1(
            gallery.features,
            gallery.labels,
            holdout.features,
            holdout.labels,
            k=min(K, len(gallery.labels)),
        )

    def _features(self, backbone: nn.Module, split: ImageSplit) -> FeatureTable:
        size = self.views.size
        batches = ImageBatches(
            split=split,
            images=EvalImages(resize=size, crop=size),
            batch_size=BATCH_SIZE,
            on_bad_image=self.on_bad_image,
        )
        with frozen(
            backbone, mean=self.views.mean, std=self.views.std, device=self.device
        ) as embed:
            return collect_features(embed, batches)

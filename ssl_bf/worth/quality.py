"""What can be known of images without labels: how features spread, and whether they are stable.

Shapes: M images, D feature width, k neighbours.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from linear_eval.backbones.backbone_header import IMAGENET_MEAN, IMAGENET_STD
from linear_eval.datasets.image_folder import ImageFolderConfig
from linear_eval.evaluation.config import RANDOM
from linear_eval.evaluation.random_backbone import (
    CALIBRATION_BATCH,
    calibrate_batch_norm,
    random_backbone,
)
from linear_eval.features.rows import unit_rows
from linear_eval.from_python import Backbone, load
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.own_images.feature_quality import alignment, rank_me, uniformity
from linear_eval.system.atomic_file import atomic_file
from linear_eval.system.screen import say
from ssl_bf.scan.found import TRAIN
from ssl_bf.scan.scan import IMAGES
from ssl_bf.worth.judging import JUDGED
from ssl_bf.worth.recipes import Setting

_NEIGHBOURS = 10  # k


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Of a backbone on images it was not trained on.

    Attributes:
        rankme: directions that the features fill.
        alignment: distance of two crops of an image, 0 (alike) to 4.
        uniformity: spread over the sphere, 0 down to about -4 (even).
        neighbours_kept: percent of an image's neighbours that are the same for another crop of it.
    """

    rankme: float
    alignment: float
    uniformity: float
    neighbours_kept: float


@dataclass(frozen=True, kw_only=True)
class UnlabelledJudge:
    """Judges backbones of one contest without labels; what was found is kept on the disk."""

    output: Path
    setting: Setting

    def look(self, name: str, backbone: str, part: str) -> Quality:
        """Judge, or read what was found before.

        Args:
            name: of the file.
            backbone: a file, `timm:NAME` or random.
            part: whose images.

        Raises:
            InputError: the backbone or an image cannot be read, or a feature is not finite.
        """
        path = self.output / JUDGED / f"{name}.{part}.json"
        if path.is_file():
            return Quality(**json.loads(path.read_text(encoding="utf-8")))
        path.parent.mkdir(exist_ok=True)
        say(f"judge {name} on {part}")
        opened = self._random() if backbone == RANDOM else load(backbone)
        found = opened.features(self.output / IMAGES / part, views=2)
        quality = Quality(
            rankme=rank_me(found.x),
            alignment=alignment(found.views[0], found.views[1]),
            uniformity=uniformity(found.x),
            neighbours_kept=neighbours_kept(*found.views),
        )
        with atomic_file(path) as file:
            file.write(json.dumps(asdict(quality), indent=2).encode() + b"\n")
        return quality

    def _random(self) -> Backbone:
        setting = self.setting
        network = random_backbone(setting.architecture, seed=0)
        size = setting.size
        train = ImageFolderConfig(root=str(self.output / IMAGES / TRAIN)).open_train()
        batches = ImageBatches(
            split=train, images=EvalImages(resize=size, crop=size), batch_size=CALIBRATION_BATCH
        )
        calibrate_batch_norm(
            network,
            batches,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            seed=0,
            device=torch.device("cpu"),
        )
        return load(network, mean=IMAGENET_MEAN, std=IMAGENET_STD, size=size)


def neighbours_kept(first: Tensor, second: Tensor) -> float:
    """Percent of the k nearest images that two crops of an image agree in, mean over images.

    Args:
        first: (M, D), one crop of each image.
        second: (M, D), another; neighbours are looked for within the same crops.
    """
    k = min(_NEIGHBOURS, len(first) - 1)
    near = []
    for rows in (unit_rows(first), unit_rows(second)):
        similar = rows @ rows.T
        similar.fill_diagonal_(-2.0)
        near.append(similar.topk(k, dim=1).indices)
    shared = (near[0][:, :, None] == near[1][:, None, :]).any(dim=2).double()
    return 100 * float(shared.mean())

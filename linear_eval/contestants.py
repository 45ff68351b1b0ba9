"""Who is judged: backbone files, the raw pixels, a random backbone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from linear_eval.backbone_file import BackboneInfo, file_sha256, load_backbone
from linear_eval.backbones import feature_dim
from linear_eval.config import PIXELS, RANDOM, EvaluateConfig
from linear_eval.errors import InputError
from linear_eval.features import Embed, frozen, raw_pixels
from linear_eval.fine_tune import Pretrained
from linear_eval.images import ImageBatches
from linear_eval.random_backbone import calibrate_batch_norm, random_backbone

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False, kw_only=True)
class Contestant:
    """One row of the table.

    Attributes:
        key: `pixels`, `random`, or the title: the name under `baselines` in `results.json`.
        title: the row's label.
        architecture: name of the architecture, or `pixels`.
        sha256: of the backbone file; None where there is none.
        backbone: None for the raw pixels.
        mean: of its input.
        std: of its input.
    """

    key: str
    title: str
    architecture: str
    sha256: str | None = None
    backbone: nn.Module | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @property
    def is_file(self) -> bool:
        """Whether a file was given, not a built-in baseline."""
        return self.sha256 is not None

    @contextmanager
    def embedding(self, train: ImageBatches, *, seed: int, device: torch.device) -> Iterator[Embed]:
        """Images -> features; the random backbone's BatchNorm is fitted to `train` first."""
        if self.backbone is None:
            yield raw_pixels
            return
        if self.key == RANDOM:
            calibrate_batch_norm(
                self.backbone, train, mean=self.mean, std=self.std, seed=seed, device=device
            )
        with frozen(self.backbone, mean=self.mean, std=self.std, device=device) as embed:
            yield embed

    def pretrained(self) -> Pretrained:
        """Where fine-tuning starts; after `embedding`, also for the random backbone."""
        assert self.backbone is not None, self.key
        width = feature_dim(self.architecture)
        return Pretrained(self.backbone, width, mean=self.mean, std=self.std)


def open_contestants(config: EvaluateConfig) -> list[Contestant]:
    """Everyone, in the order of the table: raw pixels, random backbone, files, the main one last.

    Raises:
        InputError: a file that is no sound backbone file, or `random` without an architecture.
    """
    names = [name for name in (PIXELS, RANDOM) if name in config.baselines]
    names += [name for name in config.baselines if name not in (PIXELS, RANDOM)]
    names.append(config.backbone)
    # the judged file first: `random` takes its architecture
    paths = [name for name in [config.backbone, *names] if name not in (PIXELS, RANDOM)]
    files = {name: _open_file(Path(name)) for name in dict.fromkeys(paths)}
    contestants = []
    for name in names:
        if name == PIXELS:
            contestants.append(Contestant(key=PIXELS, title="raw pixels", architecture=PIXELS))
        elif name == RANDOM:
            contestants.append(_random(config, next(iter(files.values()), None)))
        else:
            contestants.append(files[name])
    return _with_distinct_titles(contestants, names)


def _open_file(path: Path) -> Contestant:
    backbone, info = load_backbone(path)
    title = _title(info, path)
    return Contestant(
        key=title,
        title=title,
        architecture=info.architecture,
        sha256=file_sha256(path),
        backbone=backbone,
        mean=info.mean,
        std=info.std,
    )


def _title(info: BackboneInfo, path: Path) -> str:
    title = info.provenance.get("title")
    if not isinstance(title, str) or not title.strip() or title in (PIXELS, RANDOM):
        return str(path)
    return " ".join(title.split())


def _random(config: EvaluateConfig, judged: Contestant | None) -> Contestant:
    architecture = config.architecture or (judged.architecture if judged else None)
    if architecture is None:
        raise InputError(
            "architecture: missing, 'random' needs one; add e.g. architecture=resnet18"
        )
    feature_dim(architecture)
    return Contestant(
        key=RANDOM,
        title="random backbone",
        architecture=architecture,
        backbone=random_backbone(architecture, seed=config.seed),
        mean=judged.mean if judged else IMAGENET_MEAN,
        std=judged.std if judged else IMAGENET_STD,
    )


def _with_distinct_titles(contestants: list[Contestant], names: list[str]) -> list[Contestant]:
    titles = [contestant.title for contestant in contestants]
    distinct = []
    for contestant, name in zip(contestants, names, strict=True):
        if contestant.is_file and titles.count(contestant.title) > 1:
            title = f"{contestant.title} ({name})"
            contestant = replace(contestant, key=title, title=title)
        distinct.append(contestant)
    return distinct

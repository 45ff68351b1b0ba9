"""Who is judged: backbone files, the raw pixels, a random backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from linear_eval.backbones.architectures import feature_dim
from linear_eval.backbones.backbone_header import IMAGENET_MEAN, IMAGENET_STD, BackboneInfo
from linear_eval.backbones.opened import OpenedBackbone, open_backbone
from linear_eval.backbones.timm_models import Channels, is_timm, timm_model
from linear_eval.classifiers.whole_network import Pretrained
from linear_eval.evaluation.config import PIXELS, RANDOM, EvaluateConfig
from linear_eval.evaluation.random_backbone import (
    CALIBRATION_BATCH,
    CALIBRATION_IMAGES,
    calibrate_batch_norm,
    calibration_contents,
    random_backbone,
)
from linear_eval.features.store import file_weights
from linear_eval.features.table import PIXELS_SIDE, Embed, frozen, raw_pixels
from linear_eval.images.batches import ImageBatches
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, eq=False, kw_only=True)
class Contestant:
    """One row of the table.

    Attributes:
        key: `pixels`, `random`, or the title: the name under `baselines` in `results.json`.
        title: the row's label.
        architecture: name of the architecture, or `pixels`.
        sha256: of the backbone file, or of timm's tensors; None of the built-in baselines.
        backbone: None for the raw pixels.
        mean: of its input.
        std: of its input.
        path: of the backbone file; None where there is none.
        image_size: that it was trained at, in pixels; None where there is no file.
        pretraining_seed: None where the file does not say.
        pretraining_data: section `data` of the run's config; empty where the file does not say.
        width: of its features; None: that of its architecture.
    """

    key: str
    title: str
    architecture: str
    sha256: str | None = None
    backbone: nn.Module | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    path: Path | None = None
    image_size: int | None = None
    pretraining_seed: int | None = None
    pretraining_data: dict[str, Any] = field(default_factory=dict)
    width: int | None = None

    @property
    def is_file(self) -> bool:
        """Whether trained weights were given, not a built-in baseline."""
        return self.sha256 is not None

    @contextmanager
    def embedding(self, train: ImageBatches, *, seed: int, device: torch.device) -> Iterator[Embed]:
        """Images -> features; the random backbone's BatchNorm is fitted to `train` when called."""
        if self.backbone is None:
            yield raw_pixels
            return
        with frozen(self.backbone, mean=self.mean, std=self.std, device=device) as embed:
            if self.key != RANDOM:
                yield embed
                return
            calibrate = partial(self._calibrate, train, seed, device)
            yield _after(calibrate, embed)

    def weights(self, train: ImageBatches, *, seed: int) -> str:
        """What decides the features of an image, as text: the identity of what `embedding` gives.

        Whoever changes `raw_pixels`, or how the random backbone is made, changes the text as well.
        """
        if self.sha256 is not None:
            return file_weights(self.sha256)
        if self.backbone is None:
            return f"raw pixels, sides of at most {PIXELS_SIDE}"
        return (
            f"random {self.architecture}, seed {seed}, torch {torch.__version__}, "
            f"mean {self.mean}, std {self.std}, "
            f"fitted to {CALIBRATION_IMAGES} images in batches of {CALIBRATION_BATCH} of "
            f"{train.split.pixel_fingerprint}, {train.images}, bad images: {train.on_bad_image}"
            + calibration_contents(train, seed=seed)
        )

    def pretrained(self, train: ImageBatches, *, seed: int, device: torch.device) -> Pretrained:
        """Where fine-tuning starts; the random backbone's BatchNorm is fitted to `train` first."""
        assert self.backbone is not None, self.key
        if self.key == RANDOM:
            self._calibrate(train, seed, device)
        width = self.width or feature_dim(self.architecture)
        return Pretrained(self.backbone, width, mean=self.mean, std=self.std, file=self.path)

    def _calibrate(self, train: ImageBatches, seed: int, device: torch.device) -> None:
        assert self.backbone is not None, self.key
        calibrate_batch_norm(
            self.backbone, train, mean=self.mean, std=self.std, seed=seed, device=device
        )


def open_contestants(
    config: EvaluateConfig, given: OpenedBackbone | None = None
) -> list[Contestant]:
    """Everyone, in the order of the table: raw pixels, random backbone, files, the main one last.

    Args:
        config: the whole evaluation.
        given: the main one, where it is at hand; then `config.backbone` is only its name.

    Raises:
        InputError: a file that is no sound backbone file, or `random` without an architecture.
    """
    names = [name for name in (PIXELS, RANDOM) if name in config.baselines]
    names += [name for name in config.baselines if name not in (PIXELS, RANDOM)]
    names.append(config.backbone)
    if config.architecture is not None and RANDOM not in names:
        raise InputError(
            f"architecture: '{config.architecture}' is for the random backbone, and a file says "
            "its own; leave it out, or add random to baselines"
        )
    # the judged file first: `random` takes its architecture
    files = {
        name: _pretrained(name, given if given and name == config.backbone else open_backbone(name))
        for name in config.pretrained
    }
    contestants = []
    for name in names:
        if name == PIXELS:
            contestants.append(Contestant(key=PIXELS, title="raw pixels", architecture=PIXELS))
        elif name == RANDOM:
            contestants.append(_random(config, next(iter(files.values()), None)))
        else:
            contestants.append(files[name])
    return _with_distinct_titles(contestants, names)


def _pretrained(name: str, opened: OpenedBackbone) -> Contestant:
    info = opened.info
    title = _title(info, name)
    return Contestant(
        key=title,
        title=title,
        architecture=info.architecture,
        sha256=opened.sha256,
        backbone=opened.network,
        mean=info.mean,
        std=info.std,
        path=opened.path,
        image_size=info.image_size,
        pretraining_seed=info.pretraining_seed,
        pretraining_data=info.pretraining_data,
        width=info.feature_dim,
    )


def _after(prepare: Callable[[], None], embed: Embed) -> Embed:
    """`embed`, whose first call runs `prepare` before it."""
    waiting = [prepare]

    def prepared(images: Tensor) -> Tensor:
        while waiting:
            waiting.pop()()
        return embed(images)

    return prepared


def _title(info: BackboneInfo, name: str) -> str:
    title = info.provenance.get("title")
    if not isinstance(title, str) or not title.strip() or title in (PIXELS, RANDOM):
        return name
    return " ".join(title.split())


def _random(config: EvaluateConfig, judged: Contestant | None) -> Contestant:
    architecture = config.architecture or (judged.architecture if judged else None)
    if architecture is None:
        raise InputError(
            "architecture: missing, 'random' needs one; add e.g. architecture=resnet18"
        )
    feature_dim(architecture)
    mean, std = _input_of(architecture, judged)
    return Contestant(
        key=RANDOM,
        title="random backbone",
        architecture=architecture,
        backbone=random_backbone(architecture, seed=config.seed),
        mean=mean,
        std=std,
    )


def _input_of(architecture: str, judged: Contestant | None) -> tuple[Channels, Channels]:
    """Mean and std: the judged backbone's, so that they differ in weights alone."""
    if judged is not None:
        return judged.mean, judged.std
    if is_timm(architecture):
        model = timm_model(architecture)
        return model.mean, model.std
    return IMAGENET_MEAN, IMAGENET_STD


def _with_distinct_titles(contestants: list[Contestant], names: list[str]) -> list[Contestant]:
    """Add the folder's name, or the whole path, to titles that are the same."""
    titles = [contestant.title for contestant in contestants]
    distinct = []
    for contestant, name in zip(contestants, names, strict=True):
        if contestant.is_file and titles.count(contestant.title) > 1:
            alike = [
                Path(other).parent.name
                for other, title in zip(names, titles, strict=True)
                if title == contestant.title
            ]
            folder = Path(name).parent.name
            title = (
                f"{contestant.title} ({folder if folder and alike.count(folder) == 1 else name})"
            )
            contestant = replace(contestant, key=title, title=title)
        distinct.append(contestant)
    return distinct

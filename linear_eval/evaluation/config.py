"""The configuration of `linear-eval`: one YAML file, as frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from linear_eval.backbones.timm_models import is_timm
from linear_eval.datasets import DatasetConfig
from linear_eval.evaluation.protocols import ProtocolName
from linear_eval.evaluators import EVALUATORS
from linear_eval.evaluators.evaluator import Config, Evaluator
from linear_eval.evaluators.frequency import FrequencyConfig
from linear_eval.features.measured_threads import on_fastest_threads
from linear_eval.features.store import FeatureStoreConfig
from linear_eval.features.table import Embed
from linear_eval.images.batches import EvalImages
from linear_eval.system.cores import asked_threads, usable_cores
from linear_eval.system.device import choose_device

PIXELS = "pixels"
RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """Changes the results by rounding at most."""

    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: a GPU where there is one
    # of torch on the CPU; auto: one per core, or fewer for features while fewer are faster
    threads: Literal["auto"] | int = "auto"

    def __post_init__(self) -> None:
        """Refuse fewer than one thread."""
        if isinstance(self.threads, int) and self.threads < 1:
            raise ValueError(f"threads: must be >= 1, got {self.threads}")

    def fastest(self, embed: Embed, device: torch.device) -> Embed:
        """`embed` on the number of threads that is fastest, where it is ours to choose."""
        return on_fastest_threads(embed, device) if self.threads == "auto" else embed

    def open_device(self) -> torch.device:
        """The device to run on; from now on torch has as many threads as `threads` says.

        Raises:
            InputError: `cuda` is asked for and there is none.
        """
        automatic = asked_threads() or usable_cores()
        torch.set_num_threads(automatic if self.threads == "auto" else self.threads)
        return choose_device(self.device)


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """The first keys of `EvaluateConfig`."""

    data: DatasetConfig
    backbone: str = field(metadata={"expects": "a backbone file, timm:NAME, pixels or random"})
    architecture: str | None = None
    baselines: tuple[str, ...] = ()
    seed: int = 0
    protocols: tuple[ProtocolName, ...] = ("ours",)
    evaluators: tuple[str, ...] = ("knn", "linear_probe", "retrieval")
    augmented_passes: int = 10
    image_size: int | None = None
    images: EvalImages = field(default_factory=EvalImages)
    features: FeatureStoreConfig = field(default_factory=FeatureStoreConfig)


if TYPE_CHECKING:
    _WithSections = _Judged
else:
    _names = Literal[tuple(evaluator.name for evaluator in EVALUATORS)]
    _sections = [
        (each.name, each.config, field(default_factory=each.config)) for each in EVALUATORS
    ]
    _choice = ("evaluators", tuple[_names, ...], _Judged.evaluators)
    _WithSections = make_dataclass(
        "_WithSections", [_choice, *_sections], bases=(_Judged,), frozen=True, kw_only=True
    )
    """With a section for each evaluator, under its name."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(_WithSections):
    """What is judged, on which data, and how. Every evaluator has its section, under its name.

    Attributes:
        data: train (gallery, probe) and test.
        backbone: path of a backbone file, `timm:NAME` (timm's own weights), `pixels` or `random`.
        architecture: of `random`; None takes that of the first backbone file.
        baselines: judged beside the backbone; each what `backbone` may be.
        seed: of `random`.
        protocols: the rules; see `protocols.py`. `ours` is set by the sections of the evaluators,
            the others by what their authors published.
        evaluators: which to run, where a protocol has them.
        augmented_passes: over train, for probes that see augmented views; epochs see them in turn.
        image_size: short for images.resize and images.crop both of this many pixels.
        images: how an image reaches the backbone.
        features: where they are kept for the next evaluation.
        frequency: accuracy by how many train images a class has; of what predicts classes.
        batch_size: images at a time; changes results by rounding at most.
        speed: likewise.
        output: where `results.json` goes, a file or a folder; None: beside the backbone.
    """

    frequency: FrequencyConfig = field(default_factory=FrequencyConfig)
    batch_size: int = 256
    speed: SpeedConfig = field(default_factory=SpeedConfig)
    output: str | None = None

    def section(self, evaluator: Evaluator[Config]) -> Config:
        """The configuration of one evaluator."""
        found: Config = getattr(self, evaluator.name)
        return found

    @property
    def backbone_files(self) -> tuple[Path, ...]:
        """Of all that is judged, the main one first."""
        return tuple(Path(name) for name in self.pretrained if not is_timm(name))

    @property
    def pretrained(self) -> tuple[str, ...]:
        """Backbone files and models of timm among what is judged, the main one first."""
        names = dict.fromkeys([self.backbone, *self.baselines])
        return tuple(name for name in names if name not in (PIXELS, RANDOM))

    def __post_init__(self) -> None:
        """Refuse numbers below 1, a name given twice, and keys that contradict each other."""
        if self.image_size is not None:
            if self.image_size < 1:
                raise ValueError(f"image_size: must be >= 1, got {self.image_size}")
            if self.images != EvalImages():
                raise ValueError(
                    "image_size: cannot be set together with images; set images.resize and "
                    "images.crop instead"
                )
        for key in ("protocols", "evaluators"):
            names = list(getattr(self, key))
            if not names or len(set(names)) < len(names):
                raise ValueError(f"{key}: expected at least one name, each once, got {names}")
        training = {each.name for each in EVALUATORS if each.trains_backbone}
        if self.backbone == PIXELS and (without := training & set(self.evaluators)):
            name = min(without)
            raise ValueError(f"evaluators: raw pixels have no weights for {name}; leave it out")
        if self.augmented_passes < 1:
            raise ValueError(f"augmented_passes: must be >= 1, got {self.augmented_passes}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size: must be >= 1, got {self.batch_size}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed: must be between 0 and 2**63 - 1, got {self.seed}")
        twice = [name for name in self.baselines if self.baselines.count(name) > 1]
        if twice or self.backbone in self.baselines:
            name = twice[0] if twice else self.backbone
            raise ValueError(f"baselines: '{name}' would be judged twice; leave one out")

    def transform(self) -> EvalImages:
        """The evaluation transform, from `image_size` or `images`."""
        if self.image_size is None:
            return self.images
        return EvalImages(resize=self.image_size, crop=self.image_size)

"""The runs of a contest as pretraining configs: settings of the packaged small configs.

Shapes: N batch size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linear_eval.strict_config.reader import parse_config, to_yaml
from linear_eval.system.atomic_file import atomic_file
from ssl_bf.config import PretrainConfig

_METHODS: dict[str, dict[str, Any]] = {
    "moco_v2": {
        "name": "moco_v2",
        "temperature": 0.2,
        "momentum": 0.95,
        "projection_dim": 128,
        "hidden_dim": 128,
        "head_batch_norm": True,
        "in_batch_negatives": True,
        "symmetric": True,
    },
    "moco_v3": {
        "name": "moco_v3",
        "temperature": 0.2,
        "momentum": 0.95,
        "projection_dim": 128,
        "hidden_dim": 256,
        "batch_norm": "local",
    },
    "simsiam": {
        "name": "simsiam",
        "projection_dim": 256,
        "hidden_dim": 256,
        "predictor_hidden_dim": 64,
        "batch_norm": "local",
    },
}
_QUEUE = 1024  # of MoCo-v2, or as many as there are images
_CONTEXT = 32  # of BatchFormer, the paper's group of images
_RATES = {"small_conv": 0.02, "resnet18": 4e-3, "resnet50": 2e-3}  # of AdamW, per 256 images
_LEAST_RATE = 2e-3
_RATE_FROM_WEIGHTS = 0.25  # of that where weights are there already
SUPERVISED = "supervised"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A way to pretrain.

    Attributes:
        method: its name.
        with_relation: whether with BatchFormer.
        init: weights to start from, a file or `timm:NAME`; None: from scratch.
        backbone: section of the config that takes them; None: that of the setting.
        size: of its views in pixels; None: that of the setting.
        slower: how many times as long an epoch takes as from scratch; it gets as many fewer.
    """

    method: str
    with_relation: bool = False
    init: str | None = None
    backbone: dict[str, Any] | None = None
    size: int | None = None
    slower: float = 1.0

    @property
    def name(self) -> str:
        """For the reader, and of its files."""
        relation = "+batchformer" if self.with_relation else ""
        start = "" if self.init is None else f"-from-{Path(self.init.replace(':', '-')).stem}"
        return f"{self.method}{relation}{start}"


# the order in which a small budget takes them
CANDIDATES = tuple(
    Candidate(method=method, with_relation=relation)
    for method, relation in (
        *(("moco_v2", False), ("moco_v2", True), ("moco_v3", False), ("simsiam", False)),
        *(("moco_v3", True), ("simsiam", True)),
    )
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all runs of a contest share.

    Attributes:
        root: of the images, with train/.
        backbone: section of the config.
        size: of views in pixels.
        precision: of every run.
        threads: of every run.
        batch_size: N.
    """

    root: str
    backbone: dict[str, Any]
    size: int
    precision: str
    threads: int
    batch_size: int

    @property
    def architecture(self) -> str:
        """The name that the backbone file carries."""
        return _whole(self._common("simsiam", 1)).backbone.architecture

    def pretraining(self, candidate: Candidate, epochs: int, train_images: int) -> PretrainConfig:
        """Pretraining on train, without labels, for the time that `epochs` take from scratch."""
        own = max(1, round(epochs / candidate.slower))
        found = self._common(candidate.method, own)
        found["method"] = dict(_METHODS[candidate.method])
        found["relation"] = {"name": "none"}
        if candidate.method == "moco_v2":
            pushed = 2 * self.batch_size  # by a step
            found["method"]["queue_size"] = min(_QUEUE, train_images) // pushed * pushed
        if candidate.with_relation:
            found["relation"] = {
                "name": "batchformer",
                "insert_at": "projection",
                "parameters": "ema",
                "lr_scale": 0.1,
                "pairs": "plain_keys",
                "context": min(_CONTEXT, self.batch_size),
            }
            if candidate.method == "simsiam":
                found["relation"]["batch_norm"] = "split"
        if candidate.init is not None:
            section = candidate.backbone or self.backbone
            found["backbone"] = {**section, "init": candidate.init}
            found["views"]["size"] = candidate.size or self.size
            rate = _RATES.get(section["name"], _LEAST_RATE)
            found["optimizer"]["base_learning_rate"] = _RATE_FROM_WEIGHTS * rate
        return _whole(found)

    def supervised(
        self, epochs: int, *, root: str | None = None, batch_size: int
    ) -> PretrainConfig:
        """The same network from scratch, with labels alone.

        Args:
            epochs: of the run.
            root: of the images, where it is not all of train.
            batch_size: of this run.
        """
        found = self._common("crop_flip", epochs)
        found["data"]["root"] = root or self.root
        found["method"] = {"name": "classifier"}
        found["batch_size"] = batch_size
        return _whole(found)

    def _common(self, recipe: str, epochs: int) -> dict[str, Any]:
        return {
            "data": {"name": "image_folder", "root": self.root, "holdout": 0.0},
            "views": {"recipe": recipe, "size": self.size, "min_scale": 0.2, "blur": False},
            "backbone": dict(self.backbone),
            "method": {"name": "simsiam"},
            "optimizer": {
                "name": "adamw",
                "base_learning_rate": _RATES[self.backbone["name"]],
                "weight_decay": 0.05,
                "warmup_epochs": min(1.0, 0.1 * epochs),
            },
            "epochs": epochs,
            "batch_size": self.batch_size,
            "precision": self.precision,
            "speed": {"threads": self.threads},
            "run": {
                "directory": "set by worth",
                "log_every": 20,
                "monitor_every": 0,
                "save_every": "2min",
                "tensorboard": False,
            },
        }


def write_config(config: PretrainConfig, path: Path) -> None:
    """As a file that anybody may run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(to_yaml(config).encode())


def _whole(found: dict[str, Any]) -> PretrainConfig:
    return parse_config(PretrainConfig, found, []).value

"""Named evaluation protocols: what exactly the numbers of a `results.json` mean.

A published protocol runs on the same features as ours, so that one backbone's numbers can be read
beside those of other suites. What its authors do otherwise is said in its rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from linear_eval.evaluators import EVALUATORS
from linear_eval.evaluators.linear_probe import LinearProbeConfig
from linear_eval.evaluators.neighbour_votes import KnnConfig

ProtocolName = Literal["ours", "moco", "moco_v3", "simsiam", "lightly", "solo", "dino"]

_BACKBONE = "the file as given (a run's last checkpoint), frozen, eval mode, float32"
_TEST = "the whole test split, evaluated once, never used for a choice"
_LAST_EPOCH = "the probe's last epoch"


@dataclass(frozen=True)
class Protocol:
    """A protocol.

    Attributes:
        name: in the configuration.
        rules: in words.
        settings: configuration of each evaluator that the protocol has, by the evaluator's name;
            none for `ours`, which the user configures.
    """

    name: ProtocolName
    rules: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def metric_prefix(self) -> str:
        """Of its metrics in `results.json`."""
        return "" if self.name == "ours" else f"{self.name}/"


OURS = Protocol(
    name="ours",
    rules={
        "backbone": f"{_BACKBONE}, no augmentation",
        "train": "the train split, cut to data.max_images; its hold-out (five folds below 50 "
        "images per class) chooses hyper-parameters and counts as train after that",
        "test": _TEST,
        **{evaluator.name: evaluator.rules for evaluator in EVALUATORS},
    },
)


def _published(**settings: Any) -> LinearProbeConfig:
    """What all published probes have in common, and what one has of its own."""
    return LinearProbeConfig(augmented=True, normalisation="none", initial_std=0.01, **settings)


MOCO = Protocol(
    name="moco",
    rules={
        "knn": "k = 200, temperature 0.1, cosine (the official CIFAR-10 notebook)",
        "linear_probe": "SGD, rate 30 at batch 256, momentum 0.9, no weight decay, 100 epochs, "
        "x 0.1 at 60 and 80, random resized crops and flips (He et al. 2020, arXiv 1911.05722)",
        "differs": f"{_LAST_EPOCH}, where the official script keeps the best on the test split; "
        "as many augmented passes as augmented_passes says, seen in turn",
    },
    settings={
        "knn": KnnConfig(k=(200,), temperature=0.1),
        "linear_probe": _published(learning_rates=(30.0,), milestones=(60, 80)),
    },
)
MOCO_V3 = Protocol(
    name="moco_v3",
    rules={
        "linear_probe": "SGD, rate 0.1 per 256 images (ResNet; 3 for ViT) at batch 1,024, momentum "
        "0.9, no weight decay, 90 epochs, cosine, random resized crops and flips (Chen et al. "
        "2021, arXiv 2104.02057)",
        "differs": f"{_LAST_EPOCH}; the cosine falls step by step, not by epoch; augmented passes "
        "seen in turn",
    },
    settings={
        "linear_probe": _published(learning_rates=(0.1,), epochs=90, batch_size=1024),
    },
)
SIMSIAM = Protocol(
    name="simsiam",
    rules={
        "linear_probe": "LARS (trust 0.001, no clipping), rate 0.1 per 256 images at batch 4,096, "
        "momentum 0.9, no weight decay, 90 epochs, cosine, random resized crops and flips (Chen "
        "and He 2021, arXiv 2011.10566)",
        "differs": f"{_LAST_EPOCH}; the cosine falls step by step, not by epoch; augmented passes "
        "seen in turn",
    },
    settings={
        "linear_probe": _published(learning_rates=(0.1,), epochs=90, batch_size=4096, trust=0.001),
    },
)
LIGHTLY = Protocol(
    name="lightly",
    rules={
        "knn": "k = 20 and 200, temperature 0.1, cosine, clean images of all of train",
        "linear_probe": "SGD, rate 0.1 per 256 images at batch 256, momentum 0.9, no weight decay, "
        "90 epochs, cosine, random resized crops and flips",
        "differs": f"{_LAST_EPOCH}, where its tables show the best epoch on the test split; "
        "augmented passes seen in turn",
    },
    settings={
        "knn": KnnConfig(k=(200, 20), temperature=0.1),
        "linear_probe": _published(learning_rates=(0.1,), epochs=90),
    },
)
SOLO = Protocol(
    name="solo",
    rules={
        "knn": "k = 20, temperature 0.07, cosine (its offline script)",
        "linear_probe": "SGD, rate 3 at batch 256 (its ImageNet-100 recipe for MoCo-v2), momentum "
        "0.9, no weight decay, 100 epochs, x 0.1 at 60 and 80, random resized crops and flips",
        "differs": f"{_LAST_EPOCH}; its online k-NN fills the bank with augmented training crops, "
        "this one does not; augmented passes seen in turn",
    },
    settings={
        "knn": KnnConfig(k=(20,), temperature=0.07),
        "linear_probe": _published(learning_rates=(3.0,), milestones=(60, 80)),
    },
)
DINO = Protocol(
    name="dino",
    rules={
        "knn": "k = 10, 20, 100, 200, temperature 0.07, cosine",
        "linear_probe": "SGD, rate 0.001 per 256 images at batch 1,024, momentum 0.9, no weight "
        "decay, 100 epochs, cosine, random resized crops and flips",
        "differs": f"{_LAST_EPOCH}; bilinear resizing instead of bicubic; the last layer's feature "
        "only; the cosine falls step by step, not by epoch; augmented passes seen in turn",
    },
    settings={
        "knn": KnnConfig(k=(20, 10, 100, 200), temperature=0.07),
        "linear_probe": _published(learning_rates=(0.001,), batch_size=1024),
    },
)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol for protocol in (OURS, MOCO, MOCO_V3, SIMSIAM, LIGHTLY, SOLO, DINO)
}


def metrics_of(protocol: str, metrics: Iterable[str]) -> list[str]:
    """The metrics that belong to a protocol, without its prefix."""
    prefix = PROTOCOLS[protocol].metric_prefix
    return [key.removeprefix(prefix) for key in metrics if protocol_of(key) == protocol]


def protocol_of(metric: str) -> str:
    """Name of the protocol that a metric of `results.json` belongs to."""
    first = metric.partition("/")[0]
    return first if first in PROTOCOLS else OURS.name

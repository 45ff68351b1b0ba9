"""Named evaluation protocols: what exactly the numbers of a `results.json` mean."""

from __future__ import annotations

from dataclasses import dataclass

HEADLINE_K = 20


@dataclass(frozen=True)
class Protocol:
    """A protocol's name, the prefix of its metrics, and its rules in words."""

    name: str
    metric_prefix: str
    rules: dict[str, str]


OURS = Protocol(
    name="ours",
    metric_prefix="",
    rules={
        "backbone": "the file as given (a run's last checkpoint), frozen, eval mode, float32, "
        "no augmentation",
        "train": "the train split, cut to data.max_images; its hold-out chooses hyper-parameters "
        "and counts as train after that",
        "test": "the whole test split, evaluated once, never used for a choice",
        "knn": "gallery = train with its hold-out; cosine similarity s; every neighbour votes "
        "exp(s / temperature) for its class (Wu et al. 2018); headline k = 20, temperature 0.07",
        "linear_probe": "one linear layer on cached, standardised features; learning rate chosen "
        "on the hold-out, refitted on all of train",
        "retrieval": "every test image asks all other test images, the train images "
        "(retrieval.gallery=train) or the data set's own gallery; relevant = same class, or what "
        "the ground truth says; cosine",
    },
)

PROTOCOLS = {OURS.name: OURS}

"""`evaluate`: what `linear-eval run` does, for a backbone and images that a program has at hand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.given import GivenConfig, GivenImages
from linear_eval.datasets.given_images import require
from linear_eval.datasets.given_labels import with_common_classes
from linear_eval.datasets.given_split import Images, given_split
from linear_eval.evaluation.config import EvaluateConfig
from linear_eval.evaluation.run import evaluate as evaluate_given
from linear_eval.features.store import AUTO, NONE
from linear_eval.from_python.backbone import Backbone, open_images
from linear_eval.strict_config.overrides import override_texts
from linear_eval.strict_config.reader import parse_config
from linear_eval.system.cores import torch_threads
from linear_eval.system.errors import InputError


def evaluate(
    backbone: Backbone,
    *,
    train: str | Path | Images,
    test: str | Path | Images,
    evaluators: Sequence[str] = ("knn", "linear_probe", "retrieval"),
    overrides: Mapping[str, Any] | None = None,
    verbose: bool = False,
) -> dict[str, Any]:
    """Judge a backbone; nothing is written, and nothing printed unless asked.

    Numbers equal those of `linear-eval run` on the same images, seen at the same size.

    Args:
        backbone: from `load`.
        train: a folder of class folders, or a data set of (image, label) pairs; see
            `Backbone.features`. A tenth of it is held out to choose settings, see `data.holdout`.
        test: likewise, with the same classes.
        evaluators: knn, linear_probe, logistic_probe, low_shot, fine_tune, retrieval.
        overrides: any other key of an evaluation config and its value, such as
            {"knn.k": [1, 20], "baselines": ["pixels"], "data.holdout": 0.2}.
        verbose: whether tables, notes and progress are shown.

    Returns:
        What results.json holds: `metrics` in percent, by keys such as "knn/k=20/top1",
        `intervals`, `baselines`, `data` and so on.

    Raises:
        InputError: an argument is wrong, an image cannot be read or has no label, or there are too
            few images; one line.
    """
    require("backbone", backbone, Backbone, "what linear_eval.load(FILE) gives")
    require("evaluators", evaluators, (list, tuple), "a list of names such as ['knn']")
    first, second = with_common_classes(_split(train, "train"), _split(test, "test"))
    together = hashlib.sha256(f"{first.fingerprint} {second.fingerprint}".encode()).hexdigest()
    said: dict[str, Any] = {
        "data": {"name": "given", "fingerprint": together},
        "backbone": backbone.name,
        "evaluators": [*evaluators],
        "features": {"folder": NONE},
    }
    texts = override_texts(overrides or {})
    if any(text.startswith("output=") for text in texts):
        raise InputError("output: nothing is written from Python; json.dump what evaluate returns")
    if not any(text.startswith(("images.", "images=", "image_size=")) for text in texts):
        said["image_size"] = backbone.info.image_size
    loaded = parse_config(EvaluateConfig, said, texts)
    config = loaded.value
    if backbone.path is None and config.features.folder not in (NONE, AUTO):
        raise InputError(
            "features.folder: keeps features of backbone files, and this backbone has none; leave "
            "it out"
        )
    if not isinstance(config.data, GivenConfig):
        raise InputError("data.name: the images are given as train and test; leave data.name out")
    config = replace(config, data=GivenImages(config.data, first, second))
    with torch_threads(torch.get_num_threads()):
        return evaluate_given(config, backbone.opened, loaded.notes, verbose=verbose)


def _split(images: str | Path | Images, name: str) -> ImageSplit:
    if isinstance(images, str | Path):
        return open_images(images, "train")
    return given_split(images, name)

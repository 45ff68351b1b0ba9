"""The classifier that a training on labels left beside its backbone, on test images.

Shapes: M test images, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from linear_eval.classifiers.classifier_file import (
    CLASSIFIER_FILE,
    TrainedClassifier,
    backbone_digest,
    load_classifier,
)
from linear_eval.datasets.image_files import few
from linear_eval.evaluators.classification import MIN_CLASSES_FOR_TOP5, TOP, classification
from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.evaluator import Asked, Evaluator, Planned
from linear_eval.evaluators.headline import Column, Headline
from linear_eval.features.rows import require_finite
from linear_eval.system.errors import InputError

_ROWS = 4096  # of features at a time: as many times C logits


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """It has no keys: the classifier is the one beside the backbone."""


def check_classifier(planned: Planned[ClassifierConfig]) -> None:
    """Whether the judged backbone has its classifier, for the classes of the test images.

    Raises:
        InputError: it has none; or its file is damaged, of another backbone, or of other classes.
    """
    if planned.file is None or planned.backbone is None:
        raise InputError(
            f"evaluators: classifier needs a backbone file with its {CLASSIFIER_FILE} beside it, "
            "and this backbone comes from no file; leave classifier out"
        )
    path = planned.file.with_name(CLASSIFIER_FILE)
    if not path.is_file():
        raise InputError(
            f"evaluators: classifier needs {path}, which a run with labels writes beside its "
            "backbone, and there is none; copy it there, or leave classifier out"
        )
    classifier = load_classifier(path)
    _check_classes(path, classifier.info.class_names, planned.splits.test.class_names)
    if not _belongs(classifier, planned.backbone):
        raise InputError(
            f"{path}: was trained with another backbone than {planned.file} (their digests "
            "differ), expected that of the same run; copy it there, or leave classifier out of "
            "evaluators"
        )


def _check_classes(path: Path, known: tuple[str, ...], asked: tuple[str, ...]) -> None:
    if known == asked:
        return
    sides = [
        f"{what}: {few(names)}"
        for what, names in (
            ("unknown to it", set(asked) - set(known)),
            ("not in the data", set(known) - set(asked)),
        )
        if names
    ]
    raise InputError(
        f"{path}: was trained for {len(known)} classes that are not the {len(asked)} of data "
        f"({'; '.join(sides) or 'they have another order'}), expected the same names; judge on "
        "the data set that it was trained for"
    )


def evaluate_classifier(asked: Asked[ClassifierConfig]) -> Evaluation:
    """Rank the classes of every test image by the logits of the classifier beside the backbone.

    Nothing is fitted or chosen, and a prior of its training has no part in it.

    Returns:
        `classifier/top1`, `/top5` (from five classes on) and `/mean_per_class`. A contestant
        without a classifier of its own, such as a random backbone, has a note instead.

    Raises:
        InputError: a feature is not finite.
    """
    assert asked.pretrained is not None, "there is no network that it could belong to"
    pretrained, test = asked.pretrained(), asked.tables.test
    path = None if pretrained.file is None else pretrained.file.with_name(CLASSIFIER_FILE)
    classifier = load_classifier(path) if path is not None and path.is_file() else None
    if classifier is None or not _belongs(classifier, pretrained.backbone):
        return Evaluation(metrics={}, notes={"classifier": "there is none beside this backbone"})
    require_finite(test.features, "test features")
    ranked = [
        classifier.logits(rows).sort(dim=1, descending=True, stable=True).indices[:, :TOP]
        for rows in test.features.split(_ROWS)
    ]
    return classification("classifier", torch.cat(ranked), test.labels)


def _looks_at_train(planned: Planned[ClassifierConfig]) -> bool:
    del planned
    return False


EVALUATOR = Evaluator(
    name="classifier",
    config=ClassifierConfig,
    check=check_classifier,
    evaluate=evaluate_classifier,
    looks_at_train=_looks_at_train,
    headline=Headline(
        columns=(
            Column("classifier top-1", "classifier/top1"),
            Column("classifier top-5", "classifier/top5", min_classes=MIN_CLASSES_FOR_TOP5),
        ),
        details=("classifier/mean_per_class",),
        in_results_only=("classifier/top5",),
    ),
    rules="the linear layer that was trained with the backbone, on plain features, without the "
    "prior of its training; nothing is fitted here",
    predicts_classes=True,
    trains_backbone=True,
)


def _belongs(classifier: TrainedClassifier, backbone: torch.nn.Module) -> bool:
    return classifier.info.backbone_sha256 == backbone_digest(backbone)

"""Accuracies of a classifier, from the classes it ranks first on the test split.

Shapes: M test images, n ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from linear_eval.classifiers.linear_classifiers import LinearClassifiers
from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.features.rows import require_finite
from linear_eval.features.table import FeatureTables

if TYPE_CHECKING:
    from torch import Tensor

TOP = 5
MIN_CLASSES_FOR_TOP5 = 11  # to be shown: among ten classes it says little


def checked_classes(tables: FeatureTables) -> int:
    """Number of classes of train with its hold-out.

    Raises:
        InputError: a feature is not finite.
    """
    names = {"holdout": "hold-out"}
    for name, table in tables.by_name.items():
        require_finite(table.features, f"{names.get(name, name)} features")
    return 1 + int(tables.whole_labels.max())


def ranked_classes(probe: LinearClassifiers, features: Tensor) -> Tensor:
    """The (at most) five best classes of a single classifier (M, n), best first; ties by class."""
    return torch.cat(
        [
            logits[:, 0].sort(dim=0, descending=True, stable=True).indices[:TOP].T.cpu()
            for logits in probe.in_chunks(features)
        ]
    )


def classification(
    prefix: str, ranked: Tensor, labels: Tensor, notes: dict[str, float | str] | None = None
) -> Evaluation:
    """Accuracy of a classifier.

    Args:
        prefix: of all keys, such as `linear_probe`.
        ranked: classes (M, n), best first; n is less than 5 only if there are fewer classes.
        labels: (M,).
        notes: without the prefix.

    Returns:
        `/top1`, `/top5` (from five classes on) and `/mean_per_class` (over the classes in labels).
    """
    hits = (ranked == labels[:, None]).double()
    scores = {f"{prefix}/top1": hits[:, 0]}
    if hits.shape[1] == TOP:
        scores[f"{prefix}/top5"] = hits.sum(dim=1)
    metrics = {name: 100 * float(score.mean()) for name, score in scores.items()}
    metrics[f"{prefix}/mean_per_class"] = mean_per_class(hits[:, 0], labels)
    return Evaluation(
        metrics=metrics,
        scores=scores,
        predictions={prefix: ranked[:, 0]},
        notes={f"{prefix}/{name}": note for name, note in (notes or {}).items()},
    )


def mean_per_class(right: Tensor, labels: Tensor) -> float:
    """The mean of `right` (M,) within each class of `labels` (M,), averaged, in percent."""
    classes, class_of = labels.unique(return_inverse=True)
    sums = torch.zeros(len(classes), dtype=torch.float64).index_add_(0, class_of, right.double())
    return 100 * float((sums / class_of.bincount()).mean())


def class_notes(train_labels: Tensor, test_labels: Tensor) -> dict[str, float | str]:
    """Name, by their numbers, the classes that only one side has."""
    train, test = set(train_labels.tolist()), set(test_labels.tolist())
    sides = {"classes_only_in_test": test - train, "classes_only_in_train": train - test}
    return {
        name: ", ".join(map(str, sorted(classes))) for name, classes in sides.items() if classes
    }

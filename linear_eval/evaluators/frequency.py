"""Accuracy on the classes that train has many, some and few images of.

Shapes: M test images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch

from linear_eval.evaluators.evaluation import Evaluation

if TYPE_CHECKING:
    from torch import Tensor

GROUPS = ("many", "medium", "few")


@dataclass(frozen=True, kw_only=True)
class FrequencyConfig:
    """How classes are grouped by their number of train images.

    Attributes:
        report: `auto`: where the classes fall into two groups or more, and the largest has at least
            twice the images of the smallest.
        many_above: a class with more images has many.
        few_below: a class with fewer images (or none) has few; those between are medium.
    """

    report: Literal["auto", "on", "off"] = "auto"
    many_above: int = 100
    few_below: int = 20

    def __post_init__(self) -> None:
        """Refuse borders that overlap, and a class of fewer than one image."""
        if self.few_below < 1:
            raise ValueError(f"few_below: must be >= 1, got {self.few_below}")
        if self.many_above < self.few_below - 1:
            raise ValueError(
                f"many_above: must be >= few_below - 1 ({self.few_below - 1}), "
                f"got {self.many_above}"
            )


def with_frequency(
    found: Evaluation, train_labels: Tensor, test_labels: Tensor, config: FrequencyConfig
) -> Evaluation:
    """Add `/many`, `/medium` and `/few` to everything that predicts a class.

    Args:
        found: of an evaluator.
        train_labels: of all of train, with its hold-out.
        test_labels: (M,).
        config: the groups.

    Returns:
        With `knn/k=20` among the predictions, `knn/k=20/many` and so on: percent of the test images
        of these classes that are right; a group without test images is left out.

    Source: Liu et al. 2019 (arXiv 1904.05160): more than 100, 20 to 100, less than 20.
    Differs: the mean is over images, not classes; the same where test is balanced, as theirs are.
    """
    groups = group_of_classes(train_labels, test_labels, config)
    if not found.predictions or groups is None:
        return found
    group_of_image = groups[test_labels]
    metrics, scores = dict(found.metrics), dict(found.scores)
    for key, predicted in found.predictions.items():
        right = (predicted == test_labels).double()
        for number, name in enumerate(GROUPS):
            inside = group_of_image == number
            if bool(inside.any()):
                scores[f"{key}/{name}"] = right.where(inside, math.nan)
                metrics[f"{key}/{name}"] = 100 * float(right[inside].mean())
    return replace(found, metrics=metrics, scores=scores)


def group_of_classes(
    train_labels: Tensor, test_labels: Tensor, config: FrequencyConfig
) -> Tensor | None:
    """Number in `GROUPS` of every class (C,), or None where a report says nothing."""
    num_classes = 1 + max(int(train_labels.max()), int(test_labels.max()))
    counts = train_labels.bincount(minlength=num_classes)
    groups = torch.ones_like(counts)
    groups[counts > config.many_above] = 0
    groups[counts < config.few_below] = 2
    used = torch.cat([train_labels, test_labels]).unique()
    is_imbalanced = counts[used].max() >= 2 * counts[used].min()
    is_worth_it = len(groups[used].unique()) > 1 and bool(is_imbalanced)
    return groups if config.report == "on" or (config.report == "auto" and is_worth_it) else None

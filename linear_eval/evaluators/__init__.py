"""What frozen features are worth: one file per evaluator, its config beside its function.

Every `evaluate_*` returns metrics in percent, and notes: facts and warnings under the same prefix.
"""

from typing import Any

from linear_eval.evaluators import (
    classifier,
    fine_tune,
    knn,
    linear_probe,
    logistic_probe,
    low_shot,
    retrieval,
)
from linear_eval.evaluators.evaluator import Evaluator

EVALUATORS: tuple[Evaluator[Any], ...] = (
    knn.EVALUATOR,
    linear_probe.EVALUATOR,
    logistic_probe.EVALUATOR,
    low_shot.EVALUATOR,
    fine_tune.EVALUATOR,
    classifier.EVALUATOR,
    retrieval.EVALUATOR,
)
"""In the order of the tables."""

__all__ = ["EVALUATORS"]

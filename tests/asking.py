"""Evaluators asked with tables alone."""

from collections.abc import Callable
from typing import Any

from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.evaluator import Asked
from linear_eval.features.table import FeatureTable, FeatureTables


def ask(
    evaluate: Callable[[Asked[Any]], Evaluation],
    train: FeatureTable | None,
    holdout: FeatureTable | None,
    test: FeatureTable,
    config: Any,
    **rest: Any,
) -> Evaluation:
    """What `evaluate` says of these tables."""
    gallery = rest.pop("own_gallery", None)
    tables = FeatureTables(train=train, holdout=holdout, test=test, gallery=gallery)
    return evaluate(Asked(config=config, tables=tables, **rest))

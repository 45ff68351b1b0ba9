"""Numbers about tables of features, equal to those of the commands."""

from __future__ import annotations

from linear_eval.datasets.given_images import require
from linear_eval.evaluators.evaluator import Asked
from linear_eval.evaluators.knn import knn_top1
from linear_eval.evaluators.retrieval import RetrievalConfig, evaluate_retrieval
from linear_eval.features.table import FeatureTables
from linear_eval.from_python.features import Features
from linear_eval.own_images.feature_quality import alignment, rank_me, uniformity
from linear_eval.system.errors import InputError

_FEATURES = "features; backbone.features(images) gives them, or linear_eval.Features(x, labels)"


def knn(train: Features, test: Features, *, k: int = 20, temperature: float = 0.07) -> float:
    """Top-1 accuracy in percent of the weighted vote of the k nearest images of `train` by cosine.

    Args:
        train: every image labelled.
        test: likewise, with the same classes.
        k: 1 <= k <= M.
        temperature: > 0; a neighbour at similarity s votes with weight exp(s / temperature).

    Raises:
        InputError: an image has no label, the classes differ, or k is out of range.
    """
    _check_labels({"train": train, "test": test})
    require("k", k, int, "one whole number; evaluate(..., overrides={'knn.k': [5, 20]}) takes more")
    require("temperature", temperature, (int, float), "a number > 0")
    if not temperature > 0:
        raise InputError(f"temperature: {temperature}, expected a number > 0")
    if k < 1:
        raise InputError(f"k: {k} neighbours, expected at least 1")
    return knn_top1(train.x, train.labels, test.x, test.labels, k=k, temperature=temperature)


def retrieval(
    queries: Features,
    gallery: Features | None = None,
    *,
    recall_at: tuple[int, ...] = (1, 5, 10),
) -> dict[str, float]:
    """How well images of a class are found by cosine: recall@K, map, map@r, r_precision in percent.

    Args:
        queries: every image labelled.
        gallery: where they look; None: among all other queries.
        recall_at: distinct ranks >= 1.

    Raises:
        InputError: an image has no label, the classes differ, no query has anything to find, or a
            rank exceeds the gallery.
    """
    require("recall_at", recall_at, (tuple, list), "ranks such as (1, 5, 10)")
    for rank in recall_at:
        require("recall_at", rank, int, "whole numbers")
    _check_labels({"queries": queries} | ({} if gallery is None else {"gallery": gallery}))
    tables = FeatureTables(test=queries.table, gallery=None if gallery is None else gallery.table)
    try:
        config = RetrievalConfig(recall_at=tuple(recall_at))
    except ValueError as error:
        raise InputError(str(error)) from error
    found = evaluate_retrieval(Asked(config=config, tables=tables))
    return {key.removeprefix("retrieval/"): value for key, value in found.metrics.items()}


def quality(features: Features) -> dict[str, float]:
    """Quality of features without labels: rankme, uniformity, and alignment.

    Alignment needs two views of each image: `backbone.features(images, views=2)`. The ranges are
    those that `linear-eval quality` prints.

    Raises:
        InputError: fewer than two images, or a feature that is not finite.
    """
    require("features", features, Features, _FEATURES)
    found = {"rankme": rank_me(features.x)}
    if len(features.views) >= 2:
        found["alignment"] = alignment(features.views[0], features.views[1])
    return found | {"uniformity": uniformity(features.x)}


def _check_labels(tables: dict[str, Features]) -> None:
    for name, table in tables.items():
        require(name, table, Features, _FEATURES)
        if unlabelled := int((table.labels < 0).sum()):
            raise InputError(
                f"{name}: {unlabelled} of {len(table)} images have no label, expected one for each;"
                " give a folder of class folders, or a data set of (image, label) pairs"
            )
    (first, one), *others = tables.items()
    for name, other in others:
        if not _are_alike(one.class_names, other.class_names):
            raise InputError(
                f"{name}: its classes are not those of {first} ({len(other.class_names)} and "
                f"{len(one.class_names)}), expected the same names in the same order; give both so"
            )


def _are_alike(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """Whether labels mean the same, as far as is known: numbers end where images do."""
    numbered = all(each == tuple(map(str, range(len(each)))) for each in (first, second))
    return first == second or numbered or not first or not second

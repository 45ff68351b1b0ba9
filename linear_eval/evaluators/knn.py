"""k-nearest-neighbour classification: weighted or majority vote, many k and temperatures at once.

Shapes: Q queries, G gallery rows, D feature width, C classes, k neighbours, n of the largest k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.evaluator import Asked, Evaluator, Planned
from linear_eval.evaluators.headline import Column, Headline, with_groups
from linear_eval.evaluators.neighbour_votes import KnnConfig, Neighbours, find_neighbours
from linear_eval.features.table import FeatureTable
from linear_eval.search.faiss_library import open_faiss
from linear_eval.search.sharded import nearest_neighbours_by_all
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

HEADLINE_K = 20


def check_knn(planned: Planned[KnnConfig]) -> None:
    """Whether the gallery has as many images as neighbours are asked for.

    Raises:
        InputError: it has fewer.
    """
    config, splits, prefix = planned.config, planned.splits, planned.prefix
    largest, of_train = max(config.k), config.gallery == "train"
    gallery = splits.gallery_size if of_train else len(splits.test) - 1
    if largest <= gallery:
        return
    way_out = f"leave protocol '{prefix[:-1]}' out" if prefix else "lower knn.k"
    if of_train and splits.data.max_images is not None:
        way_out += " or raise data.max_images"
    raise InputError(
        f"{prefix}knn.k: {largest} neighbours out of a gallery of {gallery} {config.gallery} "
        f"images; {way_out}"
    )


def evaluate_knn(asked: Asked[KnnConfig]) -> Evaluation:
    """Classify every test image by the votes of its nearest images of train and its hold-out.

    The hold-out is part of the gallery: nothing is chosen here. Several processes call this
    together, and each searches its share of the gallery.

    Args:
        asked: features of any length; a zero feature is equally similar to all. `alike` share one
            search where they look in the same way.

    Returns:
        `knn/k=K/top1`, and `knn/k=K/t=T/top1` for other temperatures.

    Raises:
        InputError: k exceeds the gallery, or a feature is not finite.

    Source: Wu et al. 2018, section 3.4 (arXiv 1805.01978).
    """
    config, notes = _with_faiss_or_torch(asked.config)
    neighbours = _neighbours(asked, config)
    if neighbours.recall is not None:
        notes["knn/recall_of_neighbours"] = neighbours.recall
    labels = torch.cat([part.labels for part in _gallery(asked)])
    predicted = neighbours.votes(labels, config)
    test_labels = asked.tables.test.labels
    right = {name: (classes == test_labels).double() for name, classes in predicted.items()}
    return Evaluation(
        metrics={f"knn/{name}/top1": 100 * float(r.mean()) for name, r in right.items()},
        scores={f"knn/{name}/top1": r for name, r in right.items()},
        predictions={f"knn/{name}": classes for name, classes in predicted.items()},
        notes=notes,
    )


EVALUATOR = Evaluator(
    name="knn",
    config=KnnConfig,
    check=check_knn,
    evaluate=evaluate_knn,
    headline=Headline(
        columns=(Column("k-NN (k={})", "knn/k=*/top1", prefers=str(HEADLINE_K)),),
        in_results_only=with_groups("knn/k=*", "knn/k=*/t=*"),  # the sweep
    ),
    rules="gallery = train with its hold-out; cosine similarity s; every neighbour votes "
    "exp(s / temperature) for its class (Wu et al. 2018); headline k = 20, temperature 0.07",
    kept_by_protocols=("backend",),
    predicts_classes=True,
    in_every_process=True,
)


def _neighbours(asked: Asked[KnnConfig], config: KnnConfig) -> Neighbours:
    """Of the last search, if it looked in this way and as far as any of those that are alike."""
    # an approximate index may find others where more are asked for
    sharing = [] if config.is_approximate else [c for c in asked.alike if _way(c) == _way(config)]
    furthest = max(max(each.k) for each in [config, *sharing])
    search = replace(_way(config), k=(furthest,))
    if asked.memo.get("search") != search:
        asked.memo["neighbours"] = find_neighbours(
            [part.features for part in _gallery(asked)],
            asked.tables.test.features.to(asked.device),
            config=search,
            memory_mib=asked.memory_mib,
            search=nearest_neighbours_by_all,
        )
        asked.memo["search"] = search
    found: Neighbours = asked.memo["neighbours"]
    return found


def _way(config: KnnConfig) -> KnnConfig:
    """What decides which images are near."""
    return KnnConfig(distance=config.distance, gallery=config.gallery, backend=config.backend)


def _gallery(asked: Asked[KnnConfig]) -> tuple[FeatureTable, ...]:
    return (asked.tables.test,) if asked.config.gallery == "test" else asked.tables.whole


def _with_faiss_or_torch(config: KnnConfig) -> tuple[KnnConfig, dict[str, float | str]]:
    """The same without faiss where it cannot be imported, and a note that says so."""
    if config.backend not in ("auto", "torch"):
        try:
            open_faiss()
        except InputError as error:
            said = f"{error}; searched exactly with torch instead"
            return replace(config, backend="torch"), {"knn/backend": said}
    return config, {}


def knn_top1(
    gallery: Tensor,
    gallery_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    *,
    k: int,
    temperature: float = 0.07,
) -> float:
    """Top-1 accuracy in percent of weighted cosine k-NN for one k, where the features are."""
    config = KnnConfig(k=(k,), temperature=temperature)
    predicted = knn_predictions(gallery, gallery_labels, queries, config=config)[f"k={k}"]
    return 100 * float((predicted == query_labels.cpu()).double().mean())


def knn_predictions(
    gallery: Tensor | Sequence[Tensor],
    gallery_labels: Tensor,
    queries: Tensor,
    *,
    config: KnnConfig,
    memory_mib: int = 512,
) -> dict[str, Tensor]:
    """The predicted class of every query for every k and temperature, from one search.

    Args:
        gallery: (G, D), any floating type, any length, or several such tables; with
            `config.gallery` `test` these are the queries, and none votes for itself.
        gallery_labels: (G,) int64 >= 0.
        queries: (Q, D), like the gallery; the search runs where they are.
        config: neighbours, vote and distance.
        memory_mib: bound on the working memory of the search; changes nothing in the result.

    Returns:
        (Q,) int64 on the CPU per name in `config.settings`; equal votes go to the lower class.

    Raises:
        InputError: a k exceeds G (G - 1 for leave-one-out), or a feature is not finite.
    """
    neighbours = find_neighbours(gallery, queries, config=config, memory_mib=memory_mib)
    return neighbours.votes(gallery_labels, config)

"""k-nearest-neighbour classification: weighted or majority vote, many k and temperatures at once.

Shapes: Q queries, G gallery rows, D feature width, C classes, k neighbours, n of the largest k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from linear_eval.evaluators.choosing import whole_of
from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.headline import Column, Headline, with_groups
from linear_eval.evaluators.neighbour_votes import KnnConfig, Neighbours, Search, find_neighbours
from linear_eval.features.table import FeatureTable
from linear_eval.search.exact import nearest_neighbours
from linear_eval.search.faiss_library import open_faiss
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

HEADLINE_K = 20
HEADLINE = Headline(
    columns=(Column("k-NN (k={})", "knn/k=*/top1", prefers=str(HEADLINE_K)),),
    in_results_only=with_groups("knn/k=*", "knn/k=*/t=*"),  # the sweep
)


def evaluate_knn(
    train: FeatureTable,
    holdout: FeatureTable | None,
    test: FeatureTable,
    config: KnnConfig,
    *,
    memory_mib: int = 512,
    device: torch.device | str = "cpu",
    neighbours: Neighbours | None = None,
) -> Evaluation:
    """Classify every test image by the votes of its nearest images of train and its hold-out.

    The hold-out is part of the gallery: nothing is chosen here.

    Args:
        train: features (M, D), of any length; a zero feature is equally similar to all.
        holdout: likewise, or None.
        test: likewise.
        config: neighbours, vote and distance.
        memory_mib: bound on the working memory of the search; changes nothing in the result.
        device: where to search.
        neighbours: from `search_gallery`, if that was done already, for as many or more.

    Returns:
        `knn/k=K/top1`, and `knn/k=K/t=T/top1` for other temperatures.

    Raises:
        InputError: k exceeds the gallery, or a feature is not finite.

    Source: Wu et al. 2018, section 3.4 (arXiv 1805.01978).
    """
    if neighbours is None:
        neighbours = search_gallery(
            train, holdout, test, config, memory_mib=memory_mib, device=device
        )
    labels = torch.cat([part.labels for part in _gallery(train, holdout, test, config)])
    _, notes = _with_faiss_or_torch(config)
    if neighbours.recall is not None:
        notes["knn/recall_of_neighbours"] = neighbours.recall
    predicted = neighbours.votes(labels, config)
    right = {name: (classes == test.labels).double() for name, classes in predicted.items()}
    return Evaluation(
        metrics={f"knn/{name}/top1": 100 * float(r.mean()) for name, r in right.items()},
        scores={f"knn/{name}/top1": r for name, r in right.items()},
        predictions={f"knn/{name}": classes for name, classes in predicted.items()},
        notes=notes,
    )


def search_gallery(
    train: FeatureTable,
    holdout: FeatureTable | None,
    test: FeatureTable,
    config: KnnConfig,
    *,
    memory_mib: int = 512,
    device: torch.device | str = "cpu",
    search: Search = nearest_neighbours,
) -> Neighbours:
    """The search of `evaluate_knn`, which several evaluations may share; likewise its errors."""
    parts = _gallery(train, holdout, test, config)
    return find_neighbours(
        [part.features for part in parts],
        test.features.to(device),
        config=_with_faiss_or_torch(config)[0],
        memory_mib=memory_mib,
        search=search,
    )


def _gallery(
    train: FeatureTable, holdout: FeatureTable | None, test: FeatureTable, config: KnnConfig
) -> tuple[FeatureTable, ...]:
    return (test,) if config.gallery == "test" else whole_of(train, holdout)


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

"""Weighted k-nearest-neighbour classification by cosine similarity.

Shapes: Q queries, G gallery rows, D feature width, C classes, k neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from linear_eval.features import FeatureTable
from linear_eval.search import Backend, nearest_neighbours, require_finite, unit_rows

_VOTES_AT_ONCE = 2**22  # entries of a (queries, C) table of float64 votes: 32 MiB


@dataclass(frozen=True, kw_only=True)
class KnnConfig:
    """Weighted k-NN.

    Attributes:
        k: numbers of neighbours, each evaluated; the headline is 20.
        temperature: > 0; a neighbour at cosine similarity s votes with weight exp(s / temperature).
        backend: of the search; changes nothing in the result.
    """

    k: tuple[int, ...] = (1, 5, 20)
    temperature: float = 0.07
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        """Check ranges."""
        if not self.k or min(self.k) < 1 or len(set(self.k)) < len(self.k):
            raise ValueError(f"k: must be distinct numbers >= 1, got {list(self.k)}")
        if not self.temperature > 0:
            raise ValueError(f"temperature: must be > 0, got {self.temperature}")


def evaluate_knn(
    train: FeatureTable,
    holdout: FeatureTable | None,
    test: FeatureTable,
    config: KnnConfig,
    *,
    memory_mib: int = 512,
    device: torch.device | str = "cpu",
) -> tuple[dict[str, float], dict[str, float | str]]:
    """Classify every test image by the votes of its nearest images of train and its hold-out.

    The hold-out is part of the gallery: nothing is chosen here.

    Args:
        train: features (M, D); normalised here, see `unit_rows` for zero vectors.
        holdout: likewise, or None.
        test: likewise.
        config: k and temperature.
        memory_mib: bound on the working memory of the search; changes nothing in the result.
        device: where to search.

    Returns:
        `knn/k=K/top1` in percent for every k, and no notes.

    Raises:
        InputError: k exceeds the gallery, or a feature is not finite.

    Source: Wu et al. 2018, section 3.4 (arXiv 1805.01978).
    """
    parts = [train] if holdout is None else [train, holdout]
    accuracy = knn_accuracy(
        torch.cat([part.features for part in parts]),
        torch.cat([part.labels for part in parts]),
        test.features,
        test.labels,
        config=config,
        memory_mib=memory_mib,
        device=device,
    )
    return {f"knn/k={k}/top1": percent for k, percent in accuracy.items()}, {}


def knn_top1(
    gallery: Tensor,
    gallery_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    *,
    k: int,
    temperature: float = 0.07,
) -> float:
    """Top-1 accuracy in percent for one k, where the features are; see `knn_accuracy`."""
    config = KnnConfig(k=(k,), temperature=temperature)
    return knn_accuracy(gallery, gallery_labels, queries, query_labels, config=config)[k]


def knn_accuracy(
    gallery: Tensor,
    gallery_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    *,
    config: KnnConfig,
    memory_mib: int = 512,
    device: torch.device | str | None = None,
) -> dict[int, float]:
    """Top-1 accuracy in percent for every k, from one search.

    Args:
        gallery: (G, D), any floating type, any length; normalised here.
        gallery_labels: (G,) int64 >= 0.
        queries: (Q, D), like the gallery.
        query_labels: (Q,) int64; a class that the gallery lacks counts as missed.
        config: k and temperature.
        memory_mib: bound on the working memory of the search; changes nothing in the result.
        device: where to search; None: where the queries are.

    Raises:
        InputError: a k exceeds G, or a feature is not finite.
    """
    require_finite(gallery, "gallery features")
    require_finite(queries, "query features")
    similarity, index = nearest_neighbours(
        unit_rows(queries),
        unit_rows(gallery),
        max(config.k),
        backend=config.backend,
        memory_mib=memory_mib,
        device=device,
    )
    # On the CPU in float64, added up from the nearest on: equal votes come out equal.
    neighbour_labels = gallery_labels.cpu()[index.cpu()]
    weights = torch.softmax(similarity.cpu().double() / config.temperature, dim=1)
    predicted = vote(neighbour_labels, weights, config.k)
    right = (predicted == query_labels.cpu()).double().mean(dim=1)
    return {k: 100 * share for k, share in zip(config.k, right.tolist(), strict=True)}


def vote(neighbour_labels: Tensor, weights: Tensor, ks: tuple[int, ...]) -> Tensor:
    """The class with the largest sum of weights among the first k neighbours, for every k.

    Args:
        neighbour_labels: (Q, n) int64 >= 0, the nearest first.
        weights: (Q, n) float64 >= 0.
        ks: each 1 <= k <= n.

    Returns:
        (len(ks), Q) classes. Equal sums go to the lower class.
    """
    num_classes = int(neighbour_labels.max()) + 1
    at_once = max(1, _VOTES_AT_ONCE // num_classes)
    predicted = []
    for start in range(0, len(neighbour_labels), at_once):
        labels = neighbour_labels[start : start + at_once]
        weight = weights[start : start + at_once]
        sums = torch.zeros(len(labels), num_classes, dtype=torch.float64)
        counted, winners = 0, {}
        for k in sorted(ks):
            sums.scatter_add_(1, labels[:, counted:k], weight[:, counted:k])
            winners[k] = sums.argmax(dim=1)  # the first of equals
            counted = k
        predicted.append(torch.stack([winners[k] for k in ks]))
    return torch.cat(predicted, dim=1)

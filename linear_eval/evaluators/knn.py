"""k-nearest-neighbour classification: weighted or majority vote, many k and temperatures at once.

Shapes: Q queries, G gallery rows, D feature width, C classes, k neighbours, n of the largest k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.features import FeatureTable
from linear_eval.search import Backend, nearest_neighbours

_VOTES_AT_ONCE = 2**22  # entries of a (queries, C) table of float64 votes: 32 MiB


@dataclass(frozen=True, kw_only=True)
class KnnConfig:
    """k-nearest-neighbour classification.

    Attributes:
        k: numbers of neighbours, each evaluated; the headline is 20.
        temperature: > 0; with a weighted vote, a neighbour at cosine similarity s votes with weight
            exp(s / temperature).
        other_temperatures: evaluated as well, from the same search.
        vote: `majority` gives every neighbour one vote and needs no temperature.
        distance: with `euclidean`, features keep their lengths, and -d^2 / 2 takes the place of s:
            on features of length 1 that is the same vote.
        gallery: `train` with its hold-out; `test`: every test image is judged by all the others
            (leave-one-out).
        backend: of the search; changes nothing in the result.
    """

    k: tuple[int, ...] = (1, 5, 20)
    temperature: float = 0.07
    other_temperatures: tuple[float, ...] = ()
    vote: Literal["weighted", "majority"] = "weighted"
    distance: Literal["cosine", "euclidean"] = "cosine"
    gallery: Literal["train", "test"] = "train"
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        """Check ranges, and what contradicts itself."""
        if not self.k or min(self.k) < 1 or len(set(self.k)) < len(self.k):
            raise ValueError(f"k: must be distinct numbers >= 1, got {list(self.k)}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature: must be > 0, got {self.temperature}")
        others = list(self.other_temperatures)
        every = [self.temperature, *others]
        if not all(0 < t < math.inf for t in every) or len(set(every)) < len(every):
            raise ValueError(
                f"other_temperatures: must be distinct numbers > 0, not {self.temperature:g}, "
                f"got {others}"
            )
        if others and self.vote == "majority":
            raise ValueError("other_temperatures: a majority vote has none; leave them out")

    @property
    def settings(self) -> dict[str, tuple[int, float]]:
        """Name of every setting, such as `k=20` or `k=20/t=0.1` -> k and temperature."""
        named = {f"k={k}": (k, self.temperature) for k in self.k}
        return named | {
            f"k={k}/t={other:g}": (k, other) for other in self.other_temperatures for k in self.k
        }


def evaluate_knn(
    train: FeatureTable,
    holdout: FeatureTable | None,
    test: FeatureTable,
    config: KnnConfig,
    *,
    memory_mib: int = 512,
    device: torch.device | str = "cpu",
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

    Returns:
        `knn/k=K/top1`, and `knn/k=K/t=T/top1` for other temperatures.

    Raises:
        InputError: k exceeds the gallery, or a feature is not finite.

    Source: Wu et al. 2018, section 3.4 (arXiv 1805.01978).
    """
    parts = [train] if holdout is None else [train, holdout]
    parts = parts if config.gallery == "train" else [test]
    predicted = knn_predictions(
        [part.features for part in parts],
        torch.cat([part.labels for part in parts]),
        test.features.to(device),
        config=config,
        memory_mib=memory_mib,
    )
    right = {name: (classes == test.labels).double() for name, classes in predicted.items()}
    return Evaluation(
        metrics={f"knn/{name}/top1": 100 * float(r.mean()) for name, r in right.items()},
        scores={f"knn/{name}/top1": r for name, r in right.items()},
        predictions={f"knn/{name}": classes for name, classes in predicted.items()},
    )


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
    similarity, index = nearest_neighbours(
        queries,
        gallery,
        max(config.k),
        metric=config.distance,
        backend=config.backend,
        memory_mib=memory_mib,
        exclude_self=config.gallery == "test",
    )
    # On the CPU in float64, added up from the nearest on: equal votes come out equal.
    similarity = similarity.cpu().double() / (2 if config.distance == "euclidean" else 1)
    neighbour_labels = gallery_labels.cpu()[index.cpu()]
    predicted: dict[tuple[int, float], Tensor] = {}
    for temperature in (config.temperature, *config.other_temperatures):
        weights = torch.ones_like(similarity)
        if config.vote == "weighted":
            weights = torch.softmax(similarity / temperature, dim=1)
        winners = vote(neighbour_labels, weights, config.k)
        predicted |= {
            (k, temperature): classes for k, classes in zip(config.k, winners, strict=True)
        }
    return {name: predicted[setting] for name, setting in config.settings.items()}


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

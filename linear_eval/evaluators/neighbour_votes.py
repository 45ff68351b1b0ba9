"""Neighbours of queries, and the classes that these vote for.

Shapes: Q queries, G gallery rows, D feature width, C classes, k neighbours, n of the largest k.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from linear_eval.search.exact import Backend, nearest_neighbours
from linear_eval.search.faiss_index import approximate_neighbours

if TYPE_CHECKING:
    from torch import Tensor

Search = Callable[..., tuple["Tensor", "Tensor"]]
"""`nearest_neighbours`, or one with its arguments and results."""

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
        backend: of the search. `torch` and `faiss` give one result; `ivf` and `hnsw` are faiss's
            approximate indexes, and the share of neighbours that they find is noted.
    """

    k: tuple[int, ...] = (1, 5, 20)
    temperature: float = 0.07
    other_temperatures: tuple[float, ...] = ()
    vote: Literal["weighted", "majority"] = "weighted"
    distance: Literal["cosine", "euclidean"] = "cosine"
    gallery: Literal["train", "test"] = "train"
    backend: Backend | Literal["ivf", "hnsw"] = "auto"

    def __post_init__(self) -> None:
        """Refuse numbers out of the ranges above, and an approximate search that cannot be had."""
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
        if self.is_approximate and (self.distance, self.gallery) != ("cosine", "train"):
            raise ValueError(
                f"backend: '{self.backend}' searches train by cosine; set backend=auto for other "
                "distances or galleries"
            )
        if others and self.vote == "majority":
            raise ValueError("other_temperatures: a majority vote has none; leave them out")

    @property
    def is_approximate(self) -> bool:
        """Whether the back end may miss neighbours."""
        return self.backend in ("ivf", "hnsw")

    @property
    def settings(self) -> dict[str, tuple[int, float]]:
        """Name of every setting, such as `k=20` or `k=20/t=0.1` -> k and temperature."""
        named = {f"k={k}": (k, self.temperature) for k in self.k}
        return named | {
            f"k={k}/t={other:g}": (k, other) for other in self.other_temperatures for k in self.k
        }


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What one search found.

    Attributes:
        similarity: (Q, n) float64 on the CPU, the nearest first; -inf where none was found.
        index: gallery rows (Q, n) int64 on the CPU.
        recall: share of the true neighbours that an approximate index found, in [0, 1].
    """

    similarity: Tensor
    index: Tensor
    recall: float | None = None

    def votes(self, gallery_labels: Tensor, config: KnnConfig) -> dict[str, Tensor]:
        """The predicted class of every query (Q,) for every name in `config.settings`.

        A search for more neighbours than `config` asks for gives the same classes.
        """
        nearest = slice(max(config.k))
        similarity = self.similarity[:, nearest]
        labels = gallery_labels.cpu()[self.index[:, nearest]]
        predicted: dict[tuple[int, float], Tensor] = {}
        for temperature in (config.temperature, *config.other_temperatures):
            if config.vote == "weighted":
                weights = torch.softmax(similarity / temperature, dim=1)
            else:
                weights = similarity.isfinite().double()
            winners = vote(labels, weights, config.k)
            predicted |= {
                (k, temperature): classes for k, classes in zip(config.k, winners, strict=True)
            }
        return {name: predicted[setting] for name, setting in config.settings.items()}


def find_neighbours(
    gallery: Tensor | Sequence[Tensor],
    queries: Tensor,
    *,
    config: KnnConfig,
    memory_mib: int = 512,
    search: Search = nearest_neighbours,
) -> Neighbours:
    """One search for the largest k; arguments and errors are those of `knn_predictions`."""
    if config.backend == "ivf" or config.backend == "hnsw":
        tables = [gallery] if isinstance(gallery, torch.Tensor) else gallery
        found, index, recall = approximate_neighbours(
            queries, tables, max(config.k), kind=config.backend
        )
        missing = index < 0
        return Neighbours(
            found.double().masked_fill(missing, -torch.inf), index.clamp(min=0), recall
        )
    similarity, index = search(
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
    return Neighbours(similarity, index.cpu())


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

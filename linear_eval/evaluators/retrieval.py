"""Image retrieval: every test image asks all others, the train images, or a gallery of its own.

Shapes: Q queries, G gallery rows, D feature width, b queries at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.evaluator import Asked, Evaluator, Planned
from linear_eval.evaluators.headline import Column, Headline
from linear_eval.evaluators.judged_retrieval import (
    JUDGED_COLUMNS,
    JUDGED_IN_RESULTS_ONLY,
    evaluate_judged_retrieval,
)
from linear_eval.features.rows import require_finite
from linear_eval.features.table import FeatureTable
from linear_eval.search.exact import gallery_rankings, leave_one_out_rankings
from linear_eval.search.ranking import (
    average_precision,
    average_precision_at_r,
    r_precision,
    recall_at_k,
)
from linear_eval.system.agreement import gather_scores, own_share
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """Retrieval by cosine similarity.

    Attributes:
        recall_at: ranks at which recall is reported, each at most what a query can find.
        gallery: where test images look. test: among all other test images, or in the gallery of a
            data set that has one; train: among the train images with their hold-out.
    """

    recall_at: tuple[int, ...] = (1, 5, 10)
    gallery: Literal["test", "train"] = "test"

    def __post_init__(self) -> None:
        """Refuse ranks below 1, or one given twice."""
        if any(k < 1 for k in self.recall_at) or len(set(self.recall_at)) < len(self.recall_at):
            raise ValueError(f"recall_at: must be distinct ranks >= 1, got {list(self.recall_at)}")


def check_retrieval(planned: Planned[RetrievalConfig]) -> None:
    """Whether what is searched has as many images as the furthest rank.

    Raises:
        InputError: it has fewer, or the gallery is train and has other classes than test.
    """
    config, splits = planned.config, planned.splits
    if splits.judgements is not None:
        return  # a ground truth has its own ranks
    furthest = max(config.recall_at, default=1)
    if config.gallery == "train":
        if not splits.shares_classes:
            raise InputError(
                "retrieval.gallery: train, but no test image has a class of train, expected test; "
                "leave retrieval.gallery out"
            )
        found, size = "train images", splits.gallery_size
    elif splits.retrieval is not None:
        found, size = "gallery images", len(splits.retrieval.gallery)
    else:
        found, size = "other test images", len(splits.test) - 1
    if furthest > size:
        raise InputError(
            f"retrieval.recall_at: rank {furthest} among {size} {found}; lower retrieval.recall_at"
        )


def looks_at_train(planned: Planned[RetrievalConfig]) -> bool:
    """Whether train is the gallery."""
    return planned.config.gallery == "train" and planned.splits.judgements is None


def evaluate_retrieval(asked: Asked[RetrievalConfig]) -> Evaluation:
    """Rank the gallery for every test image; relevant are the images of its class.

    Where the data have a ground truth of their own, that says what is relevant, and the numbers are
    those of `evaluate_judged_retrieval`.

    Several processes call this together, and each ranks the gallery for its share of the queries:
    mAP needs whole rankings, which cannot be merged from a few neighbours per process.

    Ties go to the earlier image. A zero feature is equally similar to all. Images whose class the
    gallery lacks have nothing to find: they are no queries, but, where test is its own gallery,
    stay among what others find.

    Args:
        asked: features of any length; those of train are needed with `config.gallery` train only.

    Returns:
        `retrieval/recall@K`, `/map`, `/map@r` and `/r_precision` in percent; notes: the number of
        images with nothing to find as `retrieval/queries_left_out`, if there are any.

    Raises:
        InputError: no query has anything to find, a rank exceeds the gallery, or a feature is not
            finite.
    """
    tables, config, device = asked.tables, asked.config, torch.device(asked.device)
    if asked.splits and asked.splits.judgements is not None:
        assert tables.gallery is not None, "a ground truth without a gallery"
        return evaluate_judged_retrieval(
            tables.test,
            tables.gallery,
            asked.splits.judgements,
            memory_mib=asked.memory_mib,
            device=device,
        )
    require_finite(tables.test.features, "test features")
    own = (tables.gallery,) if tables.gallery else ()
    gallery = tables.whole if config.gallery == "train" else own
    scores = _scores(tables.test, gallery, config, asked.memory_mib, device)
    alone = int(next(iter(scores.values())).isnan().sum())
    return Evaluation(
        metrics={name: 100 * float(score.nanmean()) for name, score in scores.items()},
        scores=scores,
        notes={"retrieval/queries_left_out": alone} if alone else {},
    )


EVALUATOR = Evaluator(
    name="retrieval",
    config=RetrievalConfig,
    check=check_retrieval,
    looks_at_train=looks_at_train,
    evaluate=evaluate_retrieval,
    headline=Headline(
        columns=(
            Column("recall@{}", "retrieval/recall@*", prefers="1"),
            Column("mAP", "retrieval/map"),
            Column("mAP@R", "retrieval/map@r"),
            *JUDGED_COLUMNS,
        ),
        in_results_only=("retrieval/recall@*", "retrieval/r_precision", *JUDGED_IN_RESULTS_ONLY),
    ),
    rules="every test image asks all other test images, the train images "
    "(retrieval.gallery=train) or the data set's own gallery; relevant = same class, or what the "
    "ground truth says; cosine",
    needs_shared_classes=False,
    in_every_process=True,
)


def _scores(
    test: FeatureTable,
    gallery: Sequence[FeatureTable],
    config: RetrievalConfig,
    memory_mib: int,
    device: torch.device,
) -> dict[str, Tensor]:
    """Metric -> (Q,) float64, NaN for queries with nothing to find; no gallery: test itself."""
    labels = test.labels.to(device)
    is_own = not gallery
    found_labels = labels if is_own else torch.cat([part.labels for part in gallery]).to(device)
    num_relevant = _count(labels, found_labels) - int(is_own)
    _check_sizes(num_relevant, len(found_labels) - is_own, is_own, config)
    nan = torch.full((len(labels),), torch.nan, dtype=torch.float64)
    scores = {f"retrieval/{name}": nan.clone() for name in _names(config)}
    # half of the budget for the rankings, half for what is made of them here
    for rows, ranking in _rankings(test, gallery, max(1, memory_mib // 2), device):
        asking = num_relevant[rows] > 0
        relevant = (found_labels[ranking] == labels[rows, None])[asking]
        for name, score in _score(relevant, num_relevant[rows[asking]], config).items():
            scores[f"retrieval/{name}"][rows[asking].cpu()] = score.cpu()
    return gather_scores(scores, len(labels))


def _rankings(
    test: FeatureTable, gallery: Sequence[FeatureTable], memory_mib: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    features, own = test.features.to(device), own_share(len(test.features))
    if not gallery:
        return leave_one_out_rankings(features, metric="cosine", memory_mib=memory_mib, asking=own)
    rows = [part.features for part in gallery]
    return gallery_rankings(features, rows, metric="cosine", memory_mib=memory_mib, asking=own)


def _names(config: RetrievalConfig) -> list[str]:
    return [*(f"recall@{k}" for k in config.recall_at), "map", "map@r", "r_precision"]


def _score(relevant: Tensor, num_relevant: Tensor, config: RetrievalConfig) -> dict[str, Tensor]:
    found = [
        *(recall_at_k(relevant, k) for k in config.recall_at),
        average_precision(relevant, num_relevant),
        average_precision_at_r(relevant, num_relevant),
        r_precision(relevant, num_relevant),
    ]
    return dict(zip(_names(config), found, strict=True))


def _count(labels: Tensor, gallery_labels: Tensor) -> Tensor:
    """How many gallery rows have each query's label (Q,)."""
    classes, class_of = torch.cat([labels, gallery_labels]).unique(return_inverse=True)
    counts: Tensor = class_of[len(labels) :].bincount(minlength=len(classes))
    return counts[class_of[: len(labels)]]


def _check_sizes(
    num_relevant: Tensor, gallery_size: int, is_own: bool, config: RetrievalConfig
) -> None:
    if not (num_relevant > 0).any():
        where = "another" if is_own else "a gallery image"
        raise InputError(
            f"test: none of {len(num_relevant)} images shares its class with {where}, retrieval "
            "needs at least two of a class; leave retrieval out of evaluators"
        )
    if config.recall_at and max(config.recall_at) > gallery_size:
        others = "other test images" if is_own else "gallery images"
        raise InputError(
            f"retrieval.recall_at: {max(config.recall_at)} is more than the {gallery_size} "
            f"{others}, expected ranks of 1 to {gallery_size}; lower it"
        )

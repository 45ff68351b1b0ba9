"""Image retrieval within the test split: every image asks all the others.

Shapes: M test images, D feature width, b queries at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from linear_eval.errors import InputError
from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.feature_rows import require_finite
from linear_eval.features import FeatureTable
from linear_eval.ranking import average_precision, average_precision_at_r, r_precision, recall_at_k
from linear_eval.search import leave_one_out_rankings


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """Retrieval by cosine similarity.

    Attributes:
        recall_at: ranks at which recall is reported, each smaller than the number of test images.
    """

    recall_at: tuple[int, ...] = (1, 5, 10)

    def __post_init__(self) -> None:
        """Check ranges."""
        if any(k < 1 for k in self.recall_at) or len(set(self.recall_at)) < len(self.recall_at):
            raise ValueError(f"recall_at: must be distinct ranks >= 1, got {list(self.recall_at)}")


def evaluate_retrieval(
    train: FeatureTable,
    holdout: FeatureTable | None,
    test: FeatureTable,
    config: RetrievalConfig,
    *,
    memory_mib: int = 512,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Rank all other test images for every test image; relevant are those of its class.

    Ties go to the earlier image. A zero feature is equally similar to all. Images that are alone in
    their class have nothing to find: they are no queries, but stay among what others find.

    Args:
        train: not used; all evaluators are called alike.
        holdout: not used.
        test: features (M, D), M >= 2; normalised here.
        config: which ranks.
        memory_mib: bound on the working memory; changes nothing in the result.
        device: where to compute.

    Returns:
        `retrieval/recall@K`, `/map`, `/map@r` and `/r_precision` in percent; notes: the number of
        images alone in their class as `retrieval/queries_left_out`, if there are any.

    Raises:
        InputError: no two images share a class, a rank exceeds the number of other images, or a
            feature is not finite.
    """
    require_finite(test.features, "test features")
    labels = test.labels.to(device)
    _, class_of, sizes = labels.unique(return_inverse=True, return_counts=True)
    num_relevant = sizes[class_of] - 1
    _check_sizes(num_relevant, config)
    scores: dict[str, Tensor] = {}
    features = test.features.to(device)
    # half of the budget for the rankings, half for what is made of them here
    rankings = leave_one_out_rankings(features, metric="cosine", memory_mib=max(1, memory_mib // 2))
    for rows, ranking in rankings:
        asking = num_relevant[rows] > 0
        rows = rows[asking]
        relevant = labels[ranking[asking]] == labels[rows, None]
        for name, score in _scores(relevant, num_relevant[rows], config).items():
            everyone = scores.setdefault(
                f"retrieval/{name}", torch.full((len(labels),), torch.nan, dtype=torch.float64)
            )
            everyone[rows.cpu()] = score.cpu()
    alone = int((num_relevant == 0).sum())
    return Evaluation(
        metrics={name: 100 * float(score.nanmean()) for name, score in scores.items()},
        scores=scores,
        notes={"retrieval/queries_left_out": alone} if alone else {},
    )


def _scores(relevant: Tensor, num_relevant: Tensor, config: RetrievalConfig) -> dict[str, Tensor]:
    scores = {f"recall@{k}": recall_at_k(relevant, k) for k in config.recall_at}
    return scores | {
        "map": average_precision(relevant, num_relevant),
        "map@r": average_precision_at_r(relevant, num_relevant),
        "r_precision": r_precision(relevant, num_relevant),
    }


def _check_sizes(num_relevant: Tensor, config: RetrievalConfig) -> None:
    if not (num_relevant > 0).any():
        raise InputError(
            f"test: none of {len(num_relevant)} images shares its class with another, retrieval "
            "needs at least two of a class; leave retrieval out of evaluators"
        )
    others = len(num_relevant) - 1
    if config.recall_at and max(config.recall_at) > others:
        raise InputError(
            f"retrieval.recall_at: {max(config.recall_at)} is more than the {others} other test "
            f"images, expected ranks of 1 to {others}; lower it"
        )

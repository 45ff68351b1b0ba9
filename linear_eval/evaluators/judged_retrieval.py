"""Retrieval with a ground truth per query, as in revisited Oxford and Paris.

Shapes: Q queries, G gallery rows, D feature width, b queries at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from linear_eval.datasets.dataset import Judgement
from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.headline import Column
from linear_eval.features.rows import require_finite
from linear_eval.features.table import FeatureTable
from linear_eval.search.exact import gallery_rankings
from linear_eval.search.ranking import (
    precision_at_k,
    trapezoidal_average_precision,
    without_ignored,
)
from linear_eval.system.agreement import gather_scores, own_share
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_DISTRACTOR, _EASY, _HARD, _JUNK = range(4)
DIFFICULTIES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "easy": ((_EASY,), (_JUNK, _HARD)),
    "medium": ((_EASY, _HARD), (_JUNK,)),
    "hard": ((_HARD,), (_JUNK, _EASY)),
}
"""Difficulty -> grades that are relevant, grades that are ignored; the rest is wrong."""

PRECISION_AT = (1, 5, 10)

JUDGED_COLUMNS = tuple(Column(f"mAP {name}", f"retrieval/{name}/map") for name in DIFFICULTIES)
JUDGED_IN_RESULTS_ONLY = ("retrieval/*/mp@*",)


def evaluate_judged_retrieval(
    test: FeatureTable,
    gallery: FeatureTable,
    judgements: Mapping[str, Judgement],
    *,
    memory_mib: int = 512,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Rank the gallery for every query and score it at three difficulties.

    Gallery images that could not be read are neither found nor missed, whatever their grade: scores
    are those of a collection without them. That spares a query the relevant ones among them, so
    their number is noted; with any, the scores are not those of the published collection.

    Several processes call this together, and each ranks the gallery for its share of the queries.

    Args:
        test: the queries (Q, D), any length.
        gallery: (G, D), likewise.
        judgements: for each query's id.
        memory_mib: bound on the working memory but for Q x G bytes; changes nothing in the result.
        device: where to compute.

    Returns:
        `retrieval/easy|medium|hard/map` (trapezoidal) and `/mp@1|5|10` in percent; notes: how many
        queries have nothing to find at a difficulty, as `retrieval/DIFFICULTY/queries_left_out`,
        and how many easy or hard images the gallery lacks, as `retrieval/relevant_images_unread`.

    Raises:
        InputError: no query has anything to find, or a feature is not finite.

    Source: Radenovic et al. 2018 (arXiv 1803.11285).
    """
    require_finite(test.features, "query features")
    require_finite(gallery.features, "gallery features")
    scores = _scores(test, gallery, judgements, memory_mib, torch.device(device))
    asked = {name: score for name, score in scores.items() if not score.isnan().all()}
    if not asked:
        raise InputError(
            f"test: none of {len(test.ids)} queries has an image to find in the gallery, expected "
            "some; look at data.ground_truth"
        )
    counts = {
        f"{name}/queries_left_out": int(scores[f"retrieval/{name}/map"].isnan().sum())
        for name in DIFFICULTIES
    }
    relevant = (judgements[name].easy | judgements[name].hard for name in test.ids)
    counts["relevant_images_unread"] = len(frozenset().union(*relevant) - set(gallery.ids))
    return Evaluation(
        metrics={name: 100 * float(score.nanmean()) for name, score in asked.items()},
        scores=asked,
        notes={f"retrieval/{name}": count for name, count in counts.items() if count},
    )


def _scores(
    test: FeatureTable,
    gallery: FeatureTable,
    judgements: Mapping[str, Judgement],
    memory_mib: int,
    device: torch.device,
) -> dict[str, Tensor]:
    """Metric -> (Q,) float64, NaN for queries with nothing to find."""
    grades = _grades(test.ids, gallery.ids, judgements).to(device)
    nan = torch.full((len(test.ids),), torch.nan, dtype=torch.float64)
    scores = {
        f"retrieval/{difficulty}/{name}": nan.clone()
        for difficulty in DIFFICULTIES
        for name in ("map", *(f"mp@{k}" for k in PRECISION_AT))
    }
    rankings = gallery_rankings(
        test.features.to(device),
        gallery.features,
        metric="cosine",
        memory_mib=max(1, memory_mib // 2),
        asking=own_share(len(test.ids)),
    )
    for rows, ranking in rankings:
        ranked = grades[rows].gather(1, ranking)  # (b, G)
        for difficulty in DIFFICULTIES:
            asking, found = _score(ranked, difficulty)
            for name, score in found.items():
                scores[f"retrieval/{difficulty}/{name}"][rows[asking].cpu()] = score.cpu()
    return gather_scores(scores, len(test.ids))


def _score(ranked: Tensor, difficulty: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Which rankings of grades (b, G) have something to find (b,), and the scores of those."""
    relevant, ignored = (
        torch.isin(ranked, torch.tensor(each, dtype=ranked.dtype, device=ranked.device))
        for each in DIFFICULTIES[difficulty]
    )
    has_some = relevant.any(dim=1)
    relevant = without_ignored(relevant[has_some], ignored[has_some])
    num_relevant = relevant.sum(dim=1)
    return has_some, {
        "map": trapezoidal_average_precision(relevant, num_relevant),
        **{f"mp@{k}": precision_at_k(relevant, num_relevant, k) for k in PRECISION_AT},
    }


def _grades(
    query_ids: tuple[str, ...], gallery_ids: tuple[str, ...], judgements: Mapping[str, Judgement]
) -> Tensor:
    """What each gallery image is to each query: (Q, G) int8."""
    row = {name: number for number, name in enumerate(gallery_ids)}
    grades = torch.full((len(query_ids), len(gallery_ids)), _DISTRACTOR, dtype=torch.int8)
    for query, name in enumerate(query_ids):
        said = judgements[name]
        for grade, ids in ((_EASY, said.easy), (_HARD, said.hard), (_JUNK, said.junk)):
            grades[query, [row[each] for each in ids if each in row]] = grade
    return grades

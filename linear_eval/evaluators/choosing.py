"""How hyper-parameters are chosen without the test split: on the hold-out, or in five folds.

Shapes: M images, L candidates.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from linear_eval.datasets.splits import EvaluationSplits
from linear_eval.features.table import FeatureTable, joined
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

FEW_PER_CLASS = 50  # a tenth of fewer images a class says too little
FOLDS = 5

JudgedLogits = Iterable["Tensor"]
"""Logits (C, L, m) of the rows of a table, in its order, m rows at a time."""


@dataclass(frozen=True, eq=False)
class Round:
    """Fit on some rows of train, judge on others.

    Attributes:
        fitted_on: tables, one below the other.
        judged_on: rows that the fit does not see.
    """

    fitted_on: tuple[FeatureTable, ...]
    judged_on: FeatureTable


@dataclass(frozen=True)
class Choice:
    """Which candidate is best.

    Attributes:
        index: of the candidate.
        top1: percent of the judged images that it gets right.
        judged_on: "hold-out" or "5 folds of train".
    """

    index: int
    top1: float
    judged_on: str


def choose(
    whole: Sequence[FeatureTable],
    candidates: int,
    fit_and_judge: Callable[[Round], JudgedLogits],
) -> Choice:
    """The candidate that gets most of the held-out images right; ties by the lower loss.

    With fewer than 50 images per class on average, train and hold-out together are judged in five
    folds, stratified and chosen by the hash of each image's id.

    Args:
        whole: train with labels >= 0 and its hold-out, see `FeatureTables.whole`; with few images
            it may have none.
        candidates: L >= 2.
        fit_and_judge: fits all candidates on a round's rows.

    Raises:
        InputError: there is no hold-out, and too many images for folds.
    """
    rounds = judging_rounds(whole)
    right = torch.zeros(candidates, dtype=torch.int64)
    loss = torch.zeros(candidates, dtype=torch.float64)
    for each in rounds:
        start = 0
        for logits in fit_and_judge(each):
            labels = each.judged_on.labels[start : start + logits.shape[2]].to(logits.device)
            start += len(labels)
            right += (logits.argmax(dim=0) == labels).sum(dim=1).cpu()
            of_label = logits.log_softmax(dim=0).gather(0, labels.expand(1, candidates, -1))
            loss -= of_label[0].double().sum(dim=1).cpu()
        assert start == len(each.judged_on.labels), (start, len(each.judged_on.labels))
    judged = sum(len(each.judged_on.labels) for each in rounds)
    losses = loss.nan_to_num(nan=math.inf).tolist()
    # the answers of a diverged candidate (its loss is infinite) are no answers, even if right
    best = max(range(candidates), key=lambda n: (math.isfinite(losses[n]), right[n], -losses[n]))
    return Choice(
        index=best,
        top1=100 * int(right[best]) / judged,
        judged_on="hold-out" if len(rounds) == 1 else f"{FOLDS} folds of train",
    )


def judging_rounds(whole: Sequence[FeatureTable]) -> list[Round]:
    """One round with the hold-out, or five folds where images are few.

    Raises:
        InputError: see `choose`.
    """
    labels = torch.cat([table.labels for table in whole])
    if len(labels) < FEW_PER_CLASS * len(labels.unique()):
        return _folds(whole)
    if len(whole) == 1:
        raise InputError(
            "data.holdout: empty, expected a part of train to choose hyper-parameters on; "
            "set data.holdout=0.1, or give a single value of each"
        )
    train, holdout = whole
    return [Round(fitted_on=(train,), judged_on=holdout)]


def check_holdout(name: str, choices: int, splits: EvaluationSplits) -> None:
    """Whether there will be images to choose on.

    Args:
        name: of the evaluator.
        choices: how many settings there are.
        splits: of the data.

    Raises:
        InputError: there are several settings, no hold-out, and too many images for folds.
    """
    few = splits.gallery_size < FEW_PER_CLASS * len(splits.test.class_names)
    if splits.holdout is None and choices > 1 and not few:
        raise InputError(
            f"data.holdout: {splits.data.holdout:g} leaves no images to choose one of "
            f"{choices} settings of {name} on; set data.holdout=0.1, or give a single one"
        )


def edge_warning(name: str, chosen: float, grid: Sequence[float]) -> str | None:
    """A line if the choice lies at the edge of its grid."""
    if len(grid) == 1 or chosen not in (grid[0], grid[-1]):
        return None
    return (
        f"the chosen {name} {chosen:g} is at the edge of the grid ({grid[0]:g} to {grid[-1]:g}); "
        "widen the grid"
    )


def _folds(tables: Sequence[FeatureTable]) -> list[Round]:
    fold_of = [torch.zeros(len(table.labels), dtype=torch.int64) for table in tables]
    by_class: dict[int, list[tuple[bytes, int, int]]] = {}
    for t, table in enumerate(tables):
        for row, label in enumerate(table.labels.tolist()):
            digest = hashlib.blake2b(table.ids[row].encode("utf-8", "surrogateescape")).digest()
            by_class.setdefault(label, []).append((digest, t, row))
    # one count through all classes: classes of two images then fill all folds, not the first two
    position = 0
    for label in sorted(by_class):
        for _, t, row in sorted(by_class[label]):
            fold_of[t][row] = position % FOLDS
            position += 1
    rounds = []
    for fold in range(FOLDS):
        inside = [(numbers == fold).nonzero()[:, 0] for numbers in fold_of]
        outside = [(numbers != fold).nonzero()[:, 0] for numbers in fold_of]
        if sum(map(len, inside)) and sum(map(len, outside)):
            judged = [table.select(rows) for table, rows in zip(tables, inside, strict=True)]
            fitted = [table.select(rows) for table, rows in zip(tables, outside, strict=True)]
            rounds.append(Round(tuple(fitted), joined(judged)))
    return rounds

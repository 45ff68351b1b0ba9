"""Logistic regression on frozen features by L-BFGS, along a path of regularisations.

Shapes: M images, D feature width, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from linear_eval.classifiers.lbfgs import Memory, minimise
from linear_eval.classifiers.linear_classifiers import LinearClassifiers
from linear_eval.classifiers.training_rows import TrainingRows
from linear_eval.evaluators.choosing import (
    JudgedLogits,
    Round,
    check_holdout,
    choose,
    edge_warning,
)
from linear_eval.evaluators.classification import (
    MIN_CLASSES_FOR_TOP5,
    checked_classes,
    class_notes,
    classification,
    ranked_classes,
)
from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.evaluator import Asked, Evaluator, Planned
from linear_eval.evaluators.headline import Column, Headline
from linear_eval.features.table import FeatureTable

if TYPE_CHECKING:
    from torch import Tensor

_ROW_BYTES = 2**21  # of a chunk
_UNKNOWNS = 2**23  # of problems fitted together, each remembered forty times
_STRONG = 0.01  # decay from which on no start saves much over weights of zero


@dataclass(frozen=True, kw_only=True)
class LogisticProbeConfig:
    """L-BFGS on the mean cross-entropy plus decay / 2 times the squared weights (not the bias).

    Attributes:
        weight_decays: rising, > 0; in scikit-learn's terms, 1 / (C * number of images). Of several,
            train chooses one.
        max_iterations: of L-BFGS, for every decay.
        tolerance: largest entry of the gradient at which the descent ends.
    """

    weight_decays: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0)
    max_iterations: int = 300
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        """Refuse numbers out of the ranges above, and decays that do not rise."""
        grid = list(self.weight_decays)
        if not grid or not all(0 < decay < math.inf for decay in grid):
            raise ValueError(f"weight_decays: must be numbers > 0, got {grid}")
        if grid != sorted(set(grid)):
            raise ValueError(f"weight_decays: must rise, got {grid}")
        if self.max_iterations < 1:
            raise ValueError(f"max_iterations: must be >= 1, got {self.max_iterations}")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance: must be in (0, 1), got {self.tolerance}")


def check_logistic_probe(planned: Planned[LogisticProbeConfig]) -> None:
    """Whether there is something to choose a decay on; see `check_holdout`."""
    check_holdout("logistic_probe", len(planned.config.weight_decays), planned.splits)


def evaluate_logistic_probe(asked: Asked[LogisticProbeConfig]) -> Evaluation:
    """Choose the weight decay on train alone, refit on all of it, evaluate test once.

    Args:
        asked: train with labels >= 0; the hold-out chooses, see `choosing`. A test image of a class
            that train lacks counts as missed.

    Returns:
        `logistic_probe/top1`, `/top5` and `/mean_per_class`; notes: the chosen `weight_decay`,
        `chosen_top1`, and warnings.

    Raises:
        InputError: there is nothing to choose on, or a feature is not finite.
    """
    tables, config, device = asked.tables, asked.config, asked.device
    num_classes = checked_classes(tables)
    grid = config.weight_decays
    notes: dict[str, float | str] = {}
    decay = grid[0]
    if len(grid) > 1:

        def fit_and_judge(each: Round) -> JudgedLogits:
            path = fit_logistic_path(each.fitted_on, config, num_classes=num_classes, device=device)
            return path.in_chunks(each.judged_on.features)

        choice = choose(tables.whole, len(grid), fit_and_judge)
        decay = grid[choice.index]
        notes = {"chosen_top1": choice.top1, "chosen_on": choice.judged_on}
        if warning := edge_warning("weight decay", decay, grid):
            notes["warning"] = warning
    alone = replace(config, weight_decays=(decay,))
    refitted = fit_logistic_path(tables.whole, alone, num_classes=num_classes, device=device)
    notes = {"weight_decay": decay, **notes}
    notes |= class_notes(tables.whole_labels, tables.test.labels)
    ranked = ranked_classes(refitted.only(0), tables.test.features)
    return classification("logistic_probe", ranked, tables.test.labels, notes)


EVALUATOR = Evaluator(
    name="logistic_probe",
    config=LogisticProbeConfig,
    check=check_logistic_probe,
    evaluate=evaluate_logistic_probe,
    headline=Headline(
        columns=(
            Column("logistic top-1", "logistic_probe/top1"),
            Column("logistic top-5", "logistic_probe/top5", min_classes=MIN_CLASSES_FOR_TOP5),
        ),
        in_results_only=("logistic_probe/top5", "logistic_probe/mean_per_class"),
    ),
    rules="the same layer by L-BFGS, weight decay chosen and refitted likewise",
    predicts_classes=True,
)


def fit_logistic_path(
    tables: Sequence[FeatureTable],
    config: LogisticProbeConfig,
    *,
    num_classes: int,
    device: torch.device | str = "cpu",
) -> LinearClassifiers:
    """One classifier per weight decay, as L of `LinearClassifiers`, in the order of the config.

    Features are standardised by their own statistics. The strong decays are fitted together, from
    weights of zero: one pass over the features serves them all. So are the weak ones then, from
    where the last strong one ended, with what was learnt there about the curvature.

    Args:
        tables: features (M_i, D) and labels, one below the other.
        config: the path.
        num_classes: C.
        device: where to compute, in float32.
    """
    rows = TrainingRows.of([table.features for table in tables], device)
    labels = torch.cat([table.labels for table in tables]).to(rows.device)
    variance, mean = rows.var_mean()
    scale = (variance + 1e-5 * variance.mean()).rsqrt().nan_to_num(posinf=0.0)
    rows.normalise(mean, scale)
    basis = None
    if 2 * len(rows) <= rows.width:
        # The penalty keeps weights among the rows: rotated, all other unknowns would stay 0.
        basis = torch.linalg.qr(rows.between(0, len(rows)).T).Q  # (D, M)
        rows = TrainingRows.of([rows.between(0, len(rows)) @ basis], device)
    decays = torch.tensor(config.weight_decays[::-1], device=rows.device)
    num_strong = max(1, int((decays >= _STRONG).sum()))
    point = torch.zeros(1, num_classes, rows.width + 1, device=rows.device)
    penalised = torch.ones_like(point)
    penalised[:, :, -1] = 0
    memory, decay, found = Memory(1, rows.device), decays[0], []
    for stage in (decays[:num_strong], decays[num_strong:]):
        for group in stage.split(max(1, _UNKNOWNS // point[0].numel())) if len(stage) else ():
            memory = memory.of(len(point) - 1, len(group))
            memory.shift((group - decay)[:, None] * penalised.flatten())
            point = minimise(
                _CrossEntropy(rows, labels, group, num_classes),
                point[-1:].expand(len(group), -1, -1).flatten(1),
                tolerance=config.tolerance,
                max_iterations=config.max_iterations,
                memory=memory,
            ).view(len(group), *point.shape[1:])
            decay = group[-1]
            found.append(point)
    path = torch.cat(found).flip(0).transpose(0, 1)  # (C, L, D + 1)
    weight = path[:, :, :-1] if basis is None else path[:, :, :-1] @ basis.T
    return LinearClassifiers(mean, scale, weight.contiguous(), path[:, :, -1].contiguous())


@dataclass(frozen=True, eq=False)
class _CrossEntropy:
    """The mean cross-entropy with each of several decays; unknowns are (C, D + 1), bias last."""

    rows: TrainingRows
    labels: Tensor  # (M,)
    decays: Tensor  # (L,)
    num_classes: int

    def __call__(self, points: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Values (l,) and gradients (l, n) of problems `numbers` (l,) at `points` (l, n)."""
        unknowns = points.view(len(points), self.num_classes, -1)
        weight = unknowns[:, :, :-1].flatten(0, 1).contiguous()  # (l*C, D)
        bias = unknowns[:, :, -1].reshape(-1, 1)
        decay = self.decays[numbers]
        value = decay.double() / 2 * weight.view(len(points), -1).square().sum(dim=1)
        slope, bias_slope = torch.zeros_like(weight), torch.zeros_like(bias)
        share = 1 / len(self.rows)
        at_once = max(1, _ROW_BYTES // (4 * self.rows.width))
        for start in range(0, len(self.rows), at_once):
            x = self.rows.between(start, start + at_once)
            label = self.labels[start : start + at_once].expand(len(points), 1, -1)
            logits = torch.addmm(bias, weight, x.T).view(*unknowns.shape[:2], -1)  # (l, C, b)
            log = logits.log_softmax(dim=1)
            value -= share * log.gather(1, label).sum(dim=(1, 2), dtype=torch.float64)
            # by the logits: the probabilities, less 1 at the label
            gradient = log.exp_().scatter_add_(1, label, log.new_tensor(-1.0).expand_as(label))
            gradient = gradient.flatten(0, 1)
            slope.addmm_(gradient, x, alpha=share)
            bias_slope.add_(gradient.sum(dim=1, keepdim=True), alpha=share)
        slope.view(*unknowns.shape[:2], -1).addcmul_(unknowns[:, :, :-1], decay[:, None, None])
        return value, torch.cat([slope, bias_slope], dim=1).view_as(points)

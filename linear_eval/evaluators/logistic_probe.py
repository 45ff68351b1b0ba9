"""Logistic regression on frozen features by L-BFGS, along a path of regularisations.

Shapes: M images, D feature width, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from linear_eval.evaluators.choosing import Judgement, Round, choose, edge_warning, whole_of
from linear_eval.evaluators.classification import class_notes, classification, ranked_classes
from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.feature_rows import require_finite
from linear_eval.features import FeatureTable
from linear_eval.linear_classifiers import LinearClassifiers
from linear_eval.training_rows import TrainingRows

_AT_ONCE = 2**24  # bytes of a chunk of rows


@dataclass(frozen=True, kw_only=True)
class LogisticProbeConfig:
    """L-BFGS on the mean cross-entropy plus decay / 2 times the squared weights (not the bias).

    Attributes:
        weight_decays: rising, > 0; in scikit-learn's terms, 1 / (C * number of images). Of several,
            train chooses one.
        max_iterations: of L-BFGS for each decay, which starts where the next larger one ended.
        tolerance: largest entry of the gradient at which the descent ends.
    """

    weight_decays: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0)
    max_iterations: int = 300
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        """Check ranges."""
        grid = list(self.weight_decays)
        if not grid or not all(0 < decay < math.inf for decay in grid):
            raise ValueError(f"weight_decays: must be numbers > 0, got {grid}")
        if grid != sorted(set(grid)):
            raise ValueError(f"weight_decays: must rise, got {grid}")
        if self.max_iterations < 1:
            raise ValueError(f"max_iterations: must be >= 1, got {self.max_iterations}")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance: must be in (0, 1), got {self.tolerance}")


def evaluate_logistic_probe(
    train: FeatureTable,
    holdout: FeatureTable | None,
    test: FeatureTable,
    config: LogisticProbeConfig,
    *,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Choose the weight decay on train alone, refit on all of it, evaluate test once.

    Args:
        train: features (M, D), labels >= 0.
        holdout: the part of train that chooses, see `choosing`.
        test: an image of a class that train lacks counts as missed.
        config: the path.
        device: where to compute.

    Returns:
        `logistic_probe/top1`, `/top5` and `/mean_per_class`; notes: the chosen `weight_decay`,
        `chosen_top1`, and warnings.

    Raises:
        InputError: there is nothing to choose on, or a feature is not finite.
    """
    whole = whole_of(train, holdout)
    for name, table in (("train", train), ("hold-out", holdout), ("test", test)):
        if table is not None:
            require_finite(table.features, f"{name} features")
    num_classes = 1 + max(int(table.labels.max()) for table in whole)
    grid = config.weight_decays
    notes: dict[str, float | str] = {}
    decay = grid[0]
    if len(grid) > 1:

        def fit_and_judge(each: Round) -> Judgement:
            path = fit_logistic_path(each.fitted_on, config, num_classes=num_classes, device=device)
            return path.in_chunks(each.judged_on.features)

        choice = choose(train, holdout, len(grid), fit_and_judge)
        decay = grid[choice.index]
        notes = {"chosen_top1": choice.top1, "chosen_on": choice.judged_on}
        if warning := edge_warning("weight decay", decay, grid):
            notes["warning"] = warning
    refitted = fit_logistic_path(
        whole, config, num_classes=num_classes, device=device, down_to=decay
    )
    notes = {"weight_decay": decay, **notes}
    notes |= class_notes((table.labels for table in whole), test.labels)
    ranked = ranked_classes(refitted.only(0), test.features)
    return classification("logistic_probe", ranked, test.labels, notes)


def fit_logistic_path(
    tables: Sequence[FeatureTable],
    config: LogisticProbeConfig,
    *,
    num_classes: int,
    device: torch.device | str = "cpu",
    down_to: float = 0.0,
) -> LinearClassifiers:
    """One classifier per weight decay, as L of `LinearClassifiers`, in the order of the config.

    Features are standardised by their own statistics. The path runs from the largest decay to the
    smallest, each fit from where the last one ended, so that each needs few iterations.

    Args:
        tables: features (M_i, D) and labels, one below the other.
        config: the path.
        num_classes: C.
        device: where to compute, in float32.
        down_to: decays below it are left out.
    """
    device = torch.device(device)
    rows = TrainingRows.of([table.features for table in tables], device)
    labels = torch.cat([table.labels for table in tables]).to(device)
    variance, mean = rows.var_mean()
    scale = (variance + 1e-5 * variance.mean()).rsqrt().nan_to_num(posinf=0.0)
    rows.normalise(mean, scale)
    weight = torch.zeros(num_classes, rows.width, device=device, requires_grad=True)
    bias = torch.zeros(num_classes, device=device, requires_grad=True)
    found = []
    for decay in sorted((d for d in config.weight_decays if d >= down_to), reverse=True):
        _descend(rows, labels, (weight, bias), decay, config)
        found.append((weight.detach().clone(), bias.detach().clone()))
    found.reverse()
    weights, biases = zip(*found, strict=True)
    return LinearClassifiers(mean, scale, torch.stack(weights, dim=1), torch.stack(biases, dim=1))


def _descend(
    rows: TrainingRows,
    labels: Tensor,
    parameters: tuple[Tensor, Tensor],
    decay: float,
    config: LogisticProbeConfig,
) -> None:
    weight, bias = parameters
    chunks = torch.arange(len(rows), device=labels.device).split(
        max(1, _AT_ONCE // (4 * rows.width))
    )
    solver = torch.optim.LBFGS(
        parameters,
        max_iter=config.max_iterations,
        tolerance_grad=config.tolerance,
        tolerance_change=1e-9,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        solver.zero_grad()
        loss = decay / 2 * weight.square().sum()
        loss.backward()
        total = float(loss.detach())
        for chunk in chunks:
            logits = F.linear(rows.take(0, chunk), weight, bias)
            part = F.cross_entropy(logits, labels[chunk], reduction="sum") / len(rows)
            part.backward()
            total += float(part.detach())
        return total

    solver.step(closure)

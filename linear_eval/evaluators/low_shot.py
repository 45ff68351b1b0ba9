"""The logistic probe on few labels: 1 %, 10 %, or n images of every class.

Shapes: M images, D feature width, K drawn images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from linear_eval.evaluators.choosing import whole_of
from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.headline import Headline
from linear_eval.evaluators.label_draws import (
    LabelBudget,
    LabelDrawsConfig,
    draw_rows,
    over_draws,
)
from linear_eval.evaluators.logistic_probe import LogisticProbeConfig, evaluate_logistic_probe
from linear_eval.features.table import FeatureTable, joined

if TYPE_CHECKING:
    from torch import Tensor

_HELD_OUT = LabelBudget(name="held out", fraction=0.1)


@dataclass(frozen=True, kw_only=True)
class LowShotConfig(LabelDrawsConfig):
    """A logistic probe on few labels.

    Attributes:
        probe: of several weight decays, the drawn images alone choose one. Few images take a strong
            decay, so the grid begins and ends higher than that of `logistic_probe`; weaker ones
            would cost most of the time.
    """

    probe: LogisticProbeConfig = field(
        default_factory=lambda: LogisticProbeConfig(
            weight_decays=(1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0), max_iterations=100
        )
    )


HEADLINE = Headline(
    details=("low_shot/*/top1",),
    in_results_only=("low_shot/*/top5", "low_shot/*/mean_per_class"),
)


def evaluate_low_shot(
    train: FeatureTable,
    holdout: FeatureTable | None,
    test: FeatureTable,
    config: LowShotConfig,
    *,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Draw images of train, choose the weight decay on them, refit on them, test once per draw.

    The decay is chosen in five folds, or, from 50 drawn images per class on, on a tenth of them;
    the hold-out is train like the rest here. ImageNet's published lists of 1 % and 10 % are no
    draws: the data set `imagenet_subset` takes them as its train split.

    Args:
        train: features (M, D), labels >= 0.
        holdout: more of the same.
        test: images of a class without a train image count as missed.
        config: the budgets and the probe.
        device: where to compute.

    Returns:
        `low_shot/1%/top1`, `/top5`, `/mean_per_class`: means over draws; see `over_draws`.

    Raises:
        InputError: too few images for a budget, or a feature is not finite.

    Source: Chen et al. 2020 (SimCLR, arXiv 2002.05709), section 6: 1 % and 10 % of the labels,
    drawn class by class.
    """
    tables = whole_of(train, holdout)
    ids = tuple(name for table in tables for name in table.ids)
    labels = torch.cat([table.labels for table in tables])

    def evaluate(prefix: str, rows: Tensor, draw: int) -> Evaluation:
        del draw  # the fit has no randomness of its own
        drawn = _select(tables, rows)
        held = draw_rows(drawn.ids, drawn.labels, _HELD_OUT, "held out")
        rest = torch.ones(len(drawn.ids), dtype=torch.bool)
        rest[held] = False
        fitted_on = drawn.select(rest.nonzero()[:, 0])
        found = evaluate_logistic_probe(
            fitted_on, drawn.select(held), test, config.probe, device=device
        )
        return _renamed(found, prefix)

    return over_draws("low_shot", config, ids, labels, evaluate)


def _select(tables: Sequence[FeatureTable], rows: Tensor) -> FeatureTable:
    """Rows of tables one below the other; what is not drawn is not read."""
    parts, start = [], 0
    for table in tables:
        end = start + len(table.labels)
        parts.append(table.select(rows[(rows >= start) & (rows < end)] - start))
        start = end
    return joined(parts)


def _renamed(found: Evaluation, prefix: str) -> Evaluation:
    def name(key: str) -> str:
        return prefix + key.removeprefix("logistic_probe")

    notes = {key: note for key, note in found.notes.items() if "/classes_only_in_" not in key}
    return Evaluation(
        metrics={name(key): value for key, value in found.metrics.items()},
        scores={name(key): value for key, value in found.scores.items()},
        predictions={name(key): value for key, value in found.predictions.items()},
        notes={name(key): value for key, value in notes.items()},
    )

"""The logistic probe on few labels: 1 %, 10 %, or n images of every class.

Shapes: M images, D feature width, K drawn images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.evaluator import Asked, Evaluator, Planned
from linear_eval.evaluators.headline import Headline
from linear_eval.evaluators.label_draws import (
    LabelBudget,
    LabelDrawsConfig,
    check_draws,
    draw_rows,
    over_draws,
)
from linear_eval.evaluators.logistic_probe import LogisticProbeConfig, evaluate_logistic_probe
from linear_eval.features.table import FeatureTable, FeatureTables, joined

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


def check_low_shot(planned: Planned[LowShotConfig]) -> None:
    """Whether every budget draws what its name says; see `check_draws`."""
    check_draws("low_shot", planned.config, planned.splits.whole_labels)


def evaluate_low_shot(asked: Asked[LowShotConfig]) -> Evaluation:
    """Draw images of train, choose the weight decay on them, refit on them, test once per draw.

    The decay is chosen in five folds, or, from 50 drawn images per class on, on a tenth of them;
    the hold-out is train like the rest here. ImageNet's published lists of 1 % and 10 % are no
    draws: the data set `imagenet_subset` takes them as its train split.

    Args:
        asked: train with labels >= 0; test images of a class without a train image count as missed.

    Returns:
        `low_shot/1%/top1`, `/top5`, `/mean_per_class`: means over draws; see `over_draws`.

    Raises:
        InputError: too few images for a budget, or a feature is not finite.

    Source: Chen et al. 2020 (SimCLR, arXiv 2002.05709), section 6: 1 % and 10 % of the labels,
    drawn class by class.
    """
    whole = asked.tables.whole
    ids = tuple(name for table in whole for name in table.ids)

    def evaluate(prefix: str, rows: Tensor, draw: int) -> Evaluation:
        del draw  # the fit has no randomness of its own
        drawn = _select(whole, rows)
        held = draw_rows(drawn.ids, drawn.labels, _HELD_OUT, "held out")
        rest = torch.ones(len(drawn.ids), dtype=torch.bool)
        rest[held] = False
        tables = FeatureTables(
            train=drawn.select(rest.nonzero()[:, 0]),
            holdout=drawn.select(held),
            test=asked.tables.test,
        )
        probe = Asked(config=asked.config.probe, tables=tables, device=asked.device)
        return _renamed(evaluate_logistic_probe(probe), prefix)

    return over_draws("low_shot", asked.config, ids, asked.tables.whole_labels, evaluate)


EVALUATOR = Evaluator(
    name="low_shot",
    config=LowShotConfig,
    check=check_low_shot,
    evaluate=evaluate_low_shot,
    headline=Headline(
        details=("low_shot/*/top1",),
        in_results_only=("low_shot/*/top5", "low_shot/*/mean_per_class"),
    ),
    rules="the logistic probe on images drawn class by class; decay chosen on the drawn images; "
    "mean over draws",
)


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

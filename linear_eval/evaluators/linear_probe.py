"""A linear classifier on frozen features by SGD; train alone chooses its hyper-parameters.

Shapes: M images, D feature width, C classes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import torch

from linear_eval.classifiers.linear_classifiers import LinearClassifiers, fit_linear_classifiers
from linear_eval.classifiers.sgd_config import Hyperparameters, ProbeSgdConfig
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

_HALF_DECADES = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True, kw_only=True)
class LinearProbeConfig(ProbeSgdConfig):
    """A linear probe by SGD.

    Attributes:
        learning_rates: rising, per 256 images.
        weight_decays: rising, >= 0. Of several rates or decays, train chooses one pair.
        augmented: fit on features of augmented views, as published probes do.
    """

    learning_rates: tuple[float, ...] = _HALF_DECADES
    weight_decays: tuple[float, ...] = (0.0,)
    augmented: bool = False

    def __post_init__(self) -> None:
        """Refuse rates and decays out of the ranges above, or that do not rise."""
        super().__post_init__()
        for name, lowest in (("learning_rates", "> 0"), ("weight_decays", ">= 0")):
            grid = list(getattr(self, name))
            sound = all(0 <= x < math.inf and (x > 0 or lowest == ">= 0") for x in grid)
            if not grid or not sound:
                raise ValueError(f"{name}: must be numbers {lowest}, got {grid}")
            if grid != sorted(set(grid)):
                raise ValueError(f"{name}: must rise, got {grid}")

    @property
    def problems(self) -> tuple[Hyperparameters, ...]:
        """Every pair of a rate and a decay."""
        pairs = itertools.product(self.learning_rates, self.weight_decays)
        return tuple(Hyperparameters(rate, decay) for rate, decay in pairs)


def check_linear_probe(planned: Planned[LinearProbeConfig]) -> None:
    """Whether there is something to choose a rate on; see `check_holdout`."""
    check_holdout("linear_probe", len(planned.config.problems), planned.splits)


def evaluate_linear_probe(asked: Asked[LinearProbeConfig]) -> Evaluation:
    """Choose rate and decay on train alone, refit on all of it, evaluate test once.

    Args:
        asked: train with labels >= 0, and with `views` if the probe is fitted on augmented ones;
            the clean features of the hold-out are judged, see `choosing`. A test image of a class
            that train lacks counts as missed. The order of images is the same on any device.

    Returns:
        `linear_probe/top1`, `/top5` and `/mean_per_class`; see `classification`. Notes: the chosen
        `learning_rate` and `weight_decay`, `chosen_top1`, and warnings.

    Raises:
        InputError: there is nothing to choose on, or a feature is not finite.
    """
    tables, config, device = asked.tables, asked.config, asked.device
    num_classes = checked_classes(tables)
    problem, notes = choose_problem(tables.whole, config, num_classes=num_classes, device=device)
    probe = _fit(tables.whole, config, [problem], num_classes, device)
    notes |= class_notes(tables.whole_labels, tables.test.labels)
    ranked = ranked_classes(probe, tables.test.features)
    return classification("linear_probe", ranked, tables.test.labels, notes)


EVALUATOR = Evaluator(
    name="linear_probe",
    config=LinearProbeConfig,
    check=check_linear_probe,
    evaluate=evaluate_linear_probe,
    headline=Headline(
        columns=(
            Column("linear top-1", "linear_probe/top1"),
            Column("linear top-5", "linear_probe/top5", min_classes=MIN_CLASSES_FOR_TOP5),
        ),
        in_results_only=("linear_probe/top5", "linear_probe/mean_per_class"),
    ),
    rules="one linear layer on cached, standardised features; learning rate chosen on the "
    "hold-out, refitted on all of train",
    augmented=attrgetter("augmented"),
    predicts_classes=True,
)


def choose_problem(
    whole: Sequence[FeatureTable],
    config: LinearProbeConfig,
    *,
    num_classes: int,
    device: torch.device | str = "cpu",
) -> tuple[Hyperparameters, dict[str, float | str]]:
    """The rate and decay whose probe is best on the images held out; see `choosing.choose`.

    Returns:
        The pair, and notes if a choice was made: `learning_rate`, `weight_decay` (where there are
        several), `chosen_top1`, `chosen_on`, and `warning` at the edge of a grid.

    Raises:
        InputError: there are several problems and no hold-out.
    """
    problems = config.problems
    if len(problems) == 1:
        return problems[0], {}  # a setting, not a choice

    def fit_and_judge(each: Round) -> JudgedLogits:
        probes = _fit(each.fitted_on, config, problems, num_classes, device)
        return probes.in_chunks(each.judged_on.features)

    choice = choose(whole, len(problems), fit_and_judge)
    rate, decay = problems[choice.index]
    notes: dict[str, float | str] = {"learning_rate": rate}
    if len(config.weight_decays) > 1:
        notes["weight_decay"] = decay
    notes |= {"chosen_top1": choice.top1, "chosen_on": choice.judged_on}
    warnings = [
        edge_warning("learning rate", rate, config.learning_rates),
        # a decay of 0 is the end of every grid
        edge_warning("weight decay", decay, config.weight_decays) if decay else None,
    ]
    if said := [warning for warning in warnings if warning]:
        notes["warning"] = "; ".join(said)
    return problems[choice.index], notes


def _fit(
    tables: Sequence[FeatureTable],
    config: LinearProbeConfig,
    problems: Sequence[Hyperparameters],
    num_classes: int,
    device: torch.device | str,
) -> LinearClassifiers:
    if config.augmented:
        assert all(table.views for table in tables), "no augmented views were extracted"
        rows = TrainingRows.of_views([table.views for table in tables], device)
    else:
        rows = TrainingRows.of([table.features for table in tables], device)
    labels = torch.cat([table.labels for table in tables])
    return fit_linear_classifiers(rows, labels, config, problems=problems, num_classes=num_classes)

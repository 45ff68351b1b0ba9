"""Full fine-tuning on few labels: how good a start the backbone's weights are.

Shapes: M images, K drawn images, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from linear_eval.classifiers.whole_network import (
    FineTuneRecipe,
    fine_tuned,
    logits_of,
    top_classes,
)
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.joined import joined_splits
from linear_eval.datasets.selection import split_holdout
from linear_eval.evaluators.choosing import edge_warning
from linear_eval.evaluators.classification import TOP, classification
from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.evaluator import Asked, Evaluator, Planned
from linear_eval.evaluators.headline import Headline
from linear_eval.evaluators.label_draws import LabelDrawsConfig, check_draws, over_draws
from linear_eval.features.table import FeatureTable
from linear_eval.images.batches import ImageBatches
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_HELD_OUT = 0.2  # of the drawn images, which are few


@dataclass(frozen=True, kw_only=True)
class FineTuneConfig(LabelDrawsConfig):
    """Fine-tuning on few labels.

    Attributes:
        learning_rates: rising, > 0, per 256 images; of several, a fifth of the drawn images
            chooses one.
        recipe: the rest of the training.
    """

    learning_rates: tuple[float, ...] = (0.005, 0.02, 0.1, 0.5)
    recipe: FineTuneRecipe = field(default_factory=FineTuneRecipe)

    def __post_init__(self) -> None:
        """Refuse learning rates that are not positive or do not rise."""
        super().__post_init__()
        rates = list(self.learning_rates)
        if not rates or not all(0 < rate < math.inf for rate in rates):
            raise ValueError(f"learning_rates: must be numbers > 0, got {rates}")
        if rates != sorted(set(rates)):
            raise ValueError(f"learning_rates: must rise, got {rates}")


def check_fine_tune(planned: Planned[FineTuneConfig]) -> None:
    """Whether every budget draws enough images; see `_check_budgets`."""
    _check_budgets(planned.config, planned.splits.whole_labels)


def _check_budgets(config: FineTuneConfig, labels: Tensor) -> None:
    """Whether every budget draws enough images to train on, and to choose a rate on.

    Raises:
        InputError: see `check_draws`; or a draw takes one image of each class and there are several
            rates.
    """
    check_draws("fine_tune", config, labels)
    counts = labels.unique(return_counts=True)[1].tolist()
    for budget in config.budgets:
        if len(config.learning_rates) > 1 and max(map(budget.of, counts)) < 2:
            raise InputError(
                f"fine_tune.learning_rates: {budget.name} draws one image of a class, which leaves "
                f"none to choose one of {len(config.learning_rates)} rates on; raise "
                "fine_tune.fractions, or give a single rate"
            )


def evaluate_fine_tune(asked: Asked[FineTuneConfig]) -> Evaluation:
    """Draw images of train, choose the rate on a fifth of them, train on all, test once per draw.

    The draws are those of `low_shot` at the same seed. The order of images and their crops differ
    from draw to draw, and so does a fraction of 1.

    Args:
        asked: with images and the network, which is left as it was; the tables say which train
            images can be read. Test images, as the frozen backbone sees them, have the size of the
            crops trained on; those of a class without a train image count as missed.

    Returns:
        `fine_tune/1%/top1`, `/top5`, `/mean_per_class`: means over draws; see `over_draws`.

    Raises:
        InputError: too few images for a budget, or a training diverged.
    """
    assert asked.pretrained is not None, "there is no network to train"
    config, device, test = asked.config, asked.device, asked.batches["test"]
    pretrained, train = asked.pretrained(), _readable_train(asked)
    _check_budgets(config, train.labels)
    view_size = min(next(iter(test))[1].shape[-2:])

    def fit(split: ImageSplit, rate: float, draw: int) -> torch.nn.Module:
        return fine_tuned(
            pretrained,
            split,
            config.recipe,
            learning_rate=rate,
            view_size=view_size,
            seed=config.seed + draw,
            device=device,
        )

    def choose_rate(drawn: ImageSplit, draw: int) -> tuple[float, dict[str, float | str]]:
        rates = config.learning_rates
        if len(rates) == 1:
            return rates[0], {"learning_rate": rates[0]}
        rest, held = split_holdout(drawn, _HELD_OUT)
        judged_on = ImageBatches(split=held, images=test.images, batch_size=test.batch_size)
        judged = [logits_of(fit(rest, rate, draw), pretrained, judged_on, device) for rate in rates]
        best, top1 = _best(judged)
        notes: dict[str, float | str] = {"learning_rate": rates[best], "chosen_top1": top1}
        if warning := edge_warning("learning rate", rates[best], rates):
            notes["warning"] = warning
        return rates[best], notes

    def evaluate(prefix: str, rows: Tensor, draw: int) -> Evaluation:
        drawn = train.select(rows)
        rate, notes = choose_rate(drawn, draw)
        judged = logits_of(fit(drawn, rate, draw), pretrained, test, device)
        if not bool(judged.features.isfinite().all()):
            raise InputError(
                f"fine_tune.learning_rates: training diverged at {rate:g} on {prefix}, expected "
                "finite logits; give smaller rates"
            )
        return classification(prefix, top_classes(judged.features, TOP), judged.labels, notes)

    return over_draws("fine_tune", config, train.ids, train.labels, evaluate)


EVALUATOR = Evaluator(
    name="fine_tune",
    config=FineTuneConfig,
    check=check_fine_tune,
    evaluate=evaluate_fine_tune,
    headline=Headline(
        details=("fine_tune/*/top1",),
        in_results_only=("fine_tune/*/top5", "fine_tune/*/mean_per_class"),
    ),
    rules="a copy of the backbone with a linear layer, SGD with Nesterov momentum 0.9, cosine, "
    "random resized crops and flips, BatchNorm in train mode; the draws of low_shot, rate chosen "
    "on a fifth of them, mean over draws",
    trains_backbone=True,
)


def _readable_train(asked: Asked[FineTuneConfig]) -> ImageSplit:
    """Train with its hold-out, without the images that could not be read."""
    parts = [name for name in ("train", "holdout") if name in asked.batches]
    whole = joined_splits([asked.batches[name].split for name in parts])
    read = {name for table in asked.tables.whole for name in table.ids}
    kept = [row for row, name in enumerate(whole.ids) if name in read]
    return whole.select(torch.tensor(kept, dtype=torch.int64))


def _best(judged: Sequence[FeatureTable]) -> tuple[int, float]:
    """Which logits get most images right, ties by the lower loss, and how many in percent."""

    def quality(number: int) -> tuple[bool, int, float]:
        logits, labels = judged[number].features, judged[number].labels
        right = int((logits.argmax(dim=1) == labels).sum())
        # a held-out class that the rest lacks has no logit: it costs all alike
        known = labels < logits.shape[1]
        loss = float(
            torch.nn.functional.cross_entropy(logits[known], labels[known], reduction="sum")
        )
        return math.isfinite(loss), right, -loss

    best = max(range(len(judged)), key=quality)
    return best, 100 * quality(best)[1] / len(judged[best].labels)

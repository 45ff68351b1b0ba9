"""Few labels: stratified draws of train images, and the mean and spread over several draws.

Shapes: M images, K drawn images.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from linear_eval.evaluators.evaluation import Evaluation, note_text
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LabelBudget:
    """How many images of every class are drawn: a fraction of them, or a number.

    Attributes:
        name: in the keys of metrics, such as `1%` or `n=5`.
        fraction: in (0, 1]; halves are rounded up.
        at_least: images of a class whose fraction rounds to fewer.
        per_class: >= 1; a class that has fewer gives all of its images.
    """

    name: str
    fraction: float | None = None
    per_class: int | None = None
    at_least: int = 0

    def of(self, count: int) -> int:
        """Images drawn of a class of `count`."""
        if self.per_class is not None:
            return min(self.per_class, count)
        assert self.fraction is not None
        return max(self.at_least, math.floor(self.fraction * count + 0.5))

    def is_raised(self, count: int) -> bool:
        """Whether a class of `count` gives more than its fraction."""
        return self.of(count) > replace(self, at_least=0).of(count)


@dataclass(frozen=True, kw_only=True)
class LabelDrawsConfig:
    """How many labels are given, and how often.

    Attributes:
        fractions: of each class of train with its hold-out, in (0, 1]; at least one image.
        images_per_class: numbers >= 1.
        draws: of each of these; the report gives mean and spread.
        seed: of the draws.
    """

    fractions: tuple[float, ...] = (0.01, 0.1)
    images_per_class: tuple[int, ...] = ()
    draws: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse amounts out of the ranges above, none at all, or one given twice."""
        if not all(0 < fraction <= 1 for fraction in self.fractions):
            raise ValueError(f"fractions: must be in (0, 1], got {list(self.fractions)}")
        if not all(number >= 1 for number in self.images_per_class):
            raise ValueError(f"images_per_class: must be >= 1, got {list(self.images_per_class)}")
        names = [budget.name for budget in self.budgets]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"fractions: expected some amounts here or in images_per_class, each once, "
                f"got {names}"
            )
        if self.draws < 1:
            raise ValueError(f"draws: must be >= 1, got {self.draws}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed: must be between 0 and 2**63 - 1, got {self.seed}")

    @property
    def budgets(self) -> tuple[LabelBudget, ...]:
        """Every amount of labels."""
        shares = [LabelBudget(name=f"{100 * f:g}%", fraction=f, at_least=1) for f in self.fractions]
        numbers = [LabelBudget(name=f"n={n}", per_class=n) for n in self.images_per_class]
        return (*shares, *numbers)


def draw_rows(ids: Sequence[str], labels: Tensor, budget: LabelBudget, key: str) -> Tensor:
    """The images of each class that come first in an order drawn by `key`.

    A larger budget under the same key draws the same images and more. The draw depends on neither
    the order of the images nor those of other classes.

    Args:
        ids: M names.
        labels: (M,) int64 >= 0.
        budget: how many.
        key: at most 64 characters; another key gives another draw.

    Returns:
        (K,) int64, rising.
    """
    ranked: dict[int, list[tuple[bytes, str, int]]] = {}
    for row, (name, label) in enumerate(zip(ids, labels.tolist(), strict=True)):
        content = name.encode("utf-8", "surrogateescape")
        digest = hashlib.blake2b(content, digest_size=16, key=key.encode()).digest()
        ranked.setdefault(label, []).append((digest, name, row))
    drawn = [
        row for images in ranked.values() for *_, row in sorted(images)[: budget.of(len(images))]
    ]
    return torch.tensor(sorted(drawn), dtype=torch.int64)


def check_draws(section: str, config: LabelDrawsConfig, labels: Tensor) -> None:
    """Whether every budget draws what its name says.

    Args:
        section: of the configuration, for the message.
        config: the budgets.
        labels: (M,) of train with its hold-out.

    Raises:
        InputError: there are fewer than two images in a draw, or no class has the number asked for.
    """
    counts = labels.unique(return_counts=True)[1].tolist()
    for budget in config.budgets:
        if budget.per_class is not None and budget.per_class > max(counts):
            raise InputError(
                f"{section}.images_per_class: {budget.per_class}, but the largest class of train "
                f"has {max(counts)} images; lower it"
            )
        drawn = sum(budget.of(count) for count in counts)
        if drawn < 2:
            raise InputError(
                f"{section}: {budget.name} of every class draws {drawn} of {len(labels)} train "
                f"images, expected two or more; raise {section}.fractions, or set them to [] and "
                f"{section}.images_per_class"
            )


def over_draws(
    section: str,
    config: LabelDrawsConfig,
    ids: Sequence[str],
    labels: Tensor,
    evaluate: Callable[[str, Tensor, int], Evaluation],
) -> Evaluation:
    """Evaluate every draw of every budget, and average.

    Args:
        section: of the configuration and of the keys of metrics.
        config: the budgets.
        ids: M names of train with its hold-out.
        labels: (M,).
        evaluate: the prefix of its keys, such as `low_shot/1%`, the rows drawn and the number of
            the draw -> metrics, among them `top1`, of a fit on these rows alone.

    Returns:
        The mean over draws of every metric and of every test image's score. Predictions: those of
        each draw, as `low_shot/1%/draw=0`. Notes: the standard
        deviation of top-1 over draws (`spread`; n - 1 in the denominator; from two draws on),
        `images` drawn, `raised_classes` that gave one image though the fraction rounds to none,
        `short_classes` that have fewer images than asked for, and each draw's own notes in their
        order.

    Raises:
        InputError: see `check_draws`.
    """
    check_draws(section, config, labels)
    counts = labels.unique(return_counts=True)[1].tolist()
    total = Evaluation(metrics={})
    for budget in config.budgets:
        prefix = f"{section}/{budget.name}"
        found = []
        for draw in range(config.draws):
            rows = draw_rows(ids, labels, budget, f"{config.seed}/{draw}")
            found.append(evaluate(prefix, rows, draw))
        for key in found[0].metrics:
            total.metrics[key] = statistics.fmean(each.metrics[key] for each in found)
        for key in found[0].scores:
            total.scores[key] = torch.stack([each.scores[key] for each in found]).mean(dim=0)
        for draw, each in enumerate(found):
            for key, predicted in each.predictions.items():
                total.predictions[f"{key}/draw={draw}"] = predicted
        if len(found) > 1:
            top1 = [each.metrics[f"{prefix}/top1"] for each in found]
            total.notes[f"{prefix}/spread"] = statistics.stdev(top1)
        total.notes[f"{prefix}/images"] = sum(budget.of(count) for count in counts)
        if raised := sum(budget.is_raised(count) for count in counts):
            total.notes[f"{prefix}/raised_classes"] = (
                f"{raised} of {len(counts)} gave one image, of which {budget.name} is none"
            )
        if short := sum(count < (budget.per_class or 0) for count in counts):
            total.notes[f"{prefix}/short_classes"] = short
        total.notes.update(_notes_of(found))
    return total


def _notes_of(draws: Sequence[Evaluation]) -> dict[str, float | str]:
    """One value where all draws say the same, else the values in the order of the draws."""
    notes: dict[str, float | str] = {}
    for key in dict.fromkeys(key for each in draws for key in each.notes):
        said = [each.notes[key] for each in draws if key in each.notes]
        words = [note_text(key, value) for value in said]
        notes[key] = said[0] if len(set(words)) == 1 else ", ".join(words)
    return notes

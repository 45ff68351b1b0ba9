from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from linear_eval.classifiers.whole_network import FineTuneRecipe, Pretrained, fine_tuned, logits_of
from linear_eval.datasets import ImageSplit, TexturesConfig
from linear_eval.datasets.selection import split_holdout
from linear_eval.datasets.splits import open_splits
from linear_eval.evaluators.evaluator import Asked, Planned
from linear_eval.evaluators.fine_tune import (
    FineTuneConfig,
    check_fine_tune,
    evaluate_fine_tune,
)
from linear_eval.evaluators.label_draws import LabelBudget, draw_rows
from linear_eval.features.table import FeatureTable, FeatureTables
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.system.errors import InputError

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
RECIPE = FineTuneRecipe(epochs=2, batch_size=16)
TEXTURES = TexturesConfig(train_images=80, test_images=40)


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 8, stride=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        with torch.no_grad():
            self.conv.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.norm(self.conv(images)).relu().amax(dim=(2, 3))
        return features


START = Pretrained(Patches().eval(), 8, mean=MEAN, std=STD)


def batches(split: ImageSplit) -> ImageBatches:
    return ImageBatches(split=split, images=EvalImages(), batch_size=40)


def evaluated(config: FineTuneConfig) -> Any:
    parts = {"train": TEXTURES.open_train(), "test": TEXTURES.open_test()}
    tables = {
        name: FeatureTable(torch.zeros(len(part), 1), part.labels, part.ids)
        for name, part in parts.items()
    }
    return evaluate_fine_tune(
        Asked(
            config=config,
            tables=FeatureTables(**tables),
            batches={name: batches(part) for name, part in parts.items()},
            pretrained=lambda: START,
        )
    )


def checked(counts: list[int], **settings: Any) -> None:
    """Check a configuration for train with so many images of each class."""
    labels = torch.tensor([label for label, count in enumerate(counts) for _ in range(count)])
    splits = open_splits(TEXTURES)
    rows = torch.zeros(len(labels), dtype=torch.int64)
    train = replace(splits.train.select(rows), labels=labels)
    splits = replace(splits, train=train, holdout=None)
    check_fine_tune(Planned(config=FineTuneConfig(**settings), splits=splits))


def test_every_draw_trains_on_its_images_with_the_rate_that_a_fifth_of_them_chose() -> None:
    rates = (0.01, 1.0, 3.0)
    config = FineTuneConfig(fractions=(0.5,), draws=2, seed=3, learning_rates=rates, recipe=RECIPE)
    found = evaluated(config)
    train, test = TEXTURES.open_train(), TEXTURES.open_test()
    expected, chosen = [], []
    for draw in range(2):
        budget = LabelBudget(name="", fraction=0.5)
        drawn = train.select(draw_rows(train.ids, train.labels, budget, f"3/{draw}"))
        rest, held = split_holdout(drawn, 0.2)

        def logits(rate: float, fitted: ImageSplit, judged: ImageSplit, seed: int) -> Tensor:
            network = fine_tuned(START, fitted, RECIPE, learning_rate=rate, view_size=32, seed=seed)
            return logits_of(network, START, batches(judged), "cpu").features

        def quality(rate: float, rest: ImageSplit, held: ImageSplit, seed: int) -> Any:
            judged = logits(rate, rest, held, seed)
            right = int((judged.argmax(dim=1) == held.labels).sum())
            return right, -float(nn.functional.cross_entropy(judged, held.labels))

        chosen.append(max(rates, key=lambda rate: quality(rate, rest, held, 3 + draw)))
        right = logits(chosen[-1], drawn, test, 3 + draw).argmax(dim=1) == test.labels
        expected.append(right.double())
    mean = torch.stack(expected).mean(dim=0)
    assert torch.allclose(found.scores["fine_tune/50%/top1"], mean)
    assert found.metrics["fine_tune/50%/top1"] == pytest.approx(100 * float(mean.mean()))
    for draw, right in enumerate(expected):
        predicted = found.predictions[f"fine_tune/50%/draw={draw}"]
        assert torch.equal((predicted == test.labels).double(), right)
    assert found.metrics.keys() == {
        f"fine_tune/50%/{name}" for name in ("top1", "top5", "mean_per_class")
    }
    words = {f"{rate:g}" for rate in chosen}
    noted = found.notes["fine_tune/50%/learning_rate"]
    assert noted == (chosen[0] if len(words) == 1 else ", ".join(f"{rate:g}" for rate in chosen))
    assert found.notes["fine_tune/50%/images"] == 40


def test_a_rate_that_diverges_is_never_chosen_and_never_reported() -> None:
    config = FineTuneConfig(fractions=(0.5,), draws=1, learning_rates=(0.01, 1e30), recipe=RECIPE)
    assert evaluated(config).notes["fine_tune/50%/learning_rate"] == 0.01
    alone = FineTuneConfig(fractions=(0.5,), draws=1, learning_rates=(1e30,), recipe=RECIPE)
    with pytest.raises(InputError, match=r"fine_tune.learning_rates: training diverged at 1e\+30"):
        evaluated(alone)


def test_two_evaluations_give_the_same_numbers() -> None:
    config = FineTuneConfig(fractions=(), images_per_class=(2,), draws=1, recipe=RECIPE)
    first, second = evaluated(config), evaluated(config)
    assert first.metrics == second.metrics
    assert first.notes == second.notes


def test_images_that_leave_none_to_choose_on_need_a_single_rate() -> None:
    few = [5] * 10
    with pytest.raises(InputError, match="fine_tune.learning_rates: n=1 draws one image of a cla"):
        checked(few, fractions=(), images_per_class=(1,))
    checked(few, fractions=(), images_per_class=(2,))
    checked(few, fractions=(), images_per_class=(1,), learning_rates=(0.1,))
    with pytest.raises(InputError, match=r"1% draws one image of a class.*; raise fine_tune.frac"):
        checked(few, fractions=(0.01,))


@pytest.mark.parametrize("rates", [(), (0.0, 1.0), (1.0, 0.1), (1.0, 1.0)])
def test_rates_that_do_not_rise_from_above_zero_are_refused(rates: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="^learning_rates: must"):
        FineTuneConfig(learning_rates=rates)

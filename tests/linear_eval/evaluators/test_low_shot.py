import statistics

import pytest
import torch

from linear_eval.evaluators.label_draws import LabelBudget, draw_rows
from linear_eval.evaluators.logistic_probe import LogisticProbeConfig, evaluate_logistic_probe
from linear_eval.evaluators.low_shot import LowShotConfig, evaluate_low_shot
from linear_eval.features.table import FeatureTable, joined
from linear_eval.system.errors import InputError
from tests.asking import ask

ONE_DECAY = LogisticProbeConfig(weight_decays=(0.1,), max_iterations=30)
TWO_DECAYS = LogisticProbeConfig(weight_decays=(0.1, 30.0), max_iterations=30)


def blobs(rows: int, seed: int, noise: float = 1.0) -> FeatureTable:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 4
    features = 2 * torch.eye(6)[labels] + noise * torch.randn(rows, 6, generator=generator)
    return FeatureTable(features, labels, tuple(f"{seed}/{i}" for i in range(rows)))


def test_every_draw_is_a_probe_fitted_on_the_drawn_images_alone() -> None:
    train, holdout, test = blobs(160, seed=0), blobs(40, seed=1), blobs(100, seed=2)
    config = LowShotConfig(fractions=(0.1,), draws=3, seed=4, probe=ONE_DECAY)
    found = ask(evaluate_low_shot, train, holdout, test, config)
    everything = joined((train, holdout))
    draws = []
    for draw in range(3):
        rows = draw_rows(
            everything.ids, everything.labels, LabelBudget(name="", fraction=0.1), f"4/{draw}"
        )
        drawn = everything.select(rows)
        draws.append(ask(evaluate_logistic_probe, drawn, None, test, ONE_DECAY))
    top1 = [each.metrics["logistic_probe/top1"] for each in draws]
    assert len(set(top1)) > 1
    assert found.metrics["low_shot/10%/top1"] == pytest.approx(statistics.fmean(top1))
    assert found.notes["low_shot/10%/spread"] == pytest.approx(statistics.stdev(top1))
    assert found.notes["low_shot/10%/images"] == 20
    assert found.metrics.keys() == {"low_shot/10%/top1", "low_shot/10%/mean_per_class"}
    scores = torch.stack([each.scores["logistic_probe/top1"] for each in draws]).mean(dim=0)
    assert torch.allclose(found.scores["low_shot/10%/top1"], scores)
    assert len(found.predictions) == 3
    for draw, each in enumerate(draws):
        predicted = found.predictions[f"low_shot/10%/draw={draw}"]
        assert torch.equal(predicted, each.predictions["logistic_probe"])


def test_the_drawn_images_choose_the_weight_decay_whatever_the_others_say() -> None:
    train, test = blobs(400, seed=0), blobs(100, seed=2)
    config = LowShotConfig(fractions=(0.1,), draws=2, probe=TWO_DECAYS)
    found = ask(evaluate_low_shot, train, None, test, config)
    assert found.notes["low_shot/10%/chosen_on"] == "5 folds of train"
    drawn: set[int] = set()
    for draw in range(2):
        budget = LabelBudget(name="", fraction=0.1)
        drawn |= set(draw_rows(train.ids, train.labels, budget, f"0/{draw}").tolist())
    noise = train.features.clone()
    others = [row for row in range(400) if row not in drawn]
    noise[others] = torch.randn(len(others), 6, generator=torch.Generator().manual_seed(9))
    changed = ask(
        evaluate_low_shot, FeatureTable(noise, train.labels, train.ids), None, test, config
    )
    assert changed.metrics == found.metrics
    assert changed.notes == found.notes


def test_many_drawn_images_choose_on_a_tenth_of_themselves() -> None:
    config = LowShotConfig(fractions=(0.5,), draws=1, probe=TWO_DECAYS)
    found = ask(evaluate_low_shot, blobs(400, seed=0), None, blobs(40, seed=1), config)
    assert found.notes["low_shot/50%/chosen_on"] == "hold-out"
    assert found.notes["low_shot/50%/images"] == 200


def test_the_order_of_train_does_not_matter() -> None:
    train, test = blobs(80, seed=0), blobs(40, seed=1)
    config = LowShotConfig(fractions=(0.2,), draws=2, probe=ONE_DECAY)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    first = ask(evaluate_low_shot, train, None, test, config)
    second = ask(evaluate_low_shot, train.select(order), None, test, config)
    assert first.metrics == pytest.approx(second.metrics)


def test_the_only_image_of_a_class_is_drawn_and_that_is_noted() -> None:
    train, test = blobs(80, seed=0, noise=0.01), blobs(40, seed=1, noise=0.01)
    keep = (train.labels != 3) | (torch.arange(80) < 4)  # one image of class 3 is left
    train = train.select(keep.nonzero()[:, 0])
    config = LowShotConfig(fractions=(0.2,), draws=2, probe=ONE_DECAY)
    found = ask(evaluate_low_shot, train, None, test, config)
    said = found.notes["low_shot/20%/raised_classes"]
    assert said == "1 of 4 gave one image, of which 20% is none"
    assert found.metrics["low_shot/20%/top1"] == 100.0
    assert not any("classes_only" in key for key in found.notes)


def test_bad_features_and_an_empty_draw_are_refused() -> None:
    train, test = blobs(40, seed=0), blobs(40, seed=1)
    one_class = train.select((train.labels == 0).nonzero()[:, 0])
    with pytest.raises(InputError, match="low_shot: 1% of every class draws 1 of 10"):
        ask(evaluate_low_shot, one_class, None, test, LowShotConfig(fractions=(0.01,)))
    test.features[3, 0] = float("inf")
    with pytest.raises(InputError, match="test features: 1 of 40 rows hold NaN or infinite"):
        ask(evaluate_low_shot, train, None, test, LowShotConfig(fractions=(0.5,), probe=ONE_DECAY))

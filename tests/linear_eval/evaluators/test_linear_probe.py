from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from linear_eval.classifiers.linear_classifiers import LinearClassifiers, fit_linear_classifiers
from linear_eval.classifiers.training_rows import TrainingRows
from linear_eval.evaluators import linear_probe
from linear_eval.evaluators.linear_probe import (
    LinearProbeConfig,
    choose_problem,
    evaluate_linear_probe,
)
from linear_eval.features.table import FeatureTable
from linear_eval.system.errors import InputError
from tests.asking import ask

CONFIG = LinearProbeConfig(epochs=4, batch_size=32, learning_rates=(1e-6, 0.003, 0.1, 3.0))


def table(features: Tensor, labels: Tensor) -> FeatureTable:
    ids = tuple(f"image {i}" for i in range(len(labels)))
    return FeatureTable(features=features, labels=labels, ids=ids)


def blobs(rows: int, seed: int, classes: int = 6, noise: float = 1.0) -> FeatureTable:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (rows,), generator=generator)
    features = 2 * torch.eye(classes + 2)[labels]
    return table(features + noise * torch.randn(features.shape, generator=generator), labels)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Any, Any]]:
    """Every fit of the test: its features, its rates, and what came out."""
    record: list[tuple[Tensor, Any, Any]] = []

    def spy(rows: TrainingRows, labels: Tensor, config: Any, **rest: Any) -> LinearClassifiers:
        features = torch.cat(rows.passes[0].parts)
        found = fit_linear_classifiers(rows, labels, config, **rest)
        record.append((features, rest["problems"], found))
        return found

    monkeypatch.setattr(linear_probe, "fit_linear_classifiers", spy)
    return record


def test_the_rate_is_chosen_on_the_holdout_and_refitted_on_all_of_train(
    fits: list[tuple[Tensor, Any, Any]],
) -> None:
    train, holdout, test = blobs(300, seed=0), blobs(60, seed=1), blobs(60, seed=2)
    notes = ask(evaluate_linear_probe, train, holdout, test, CONFIG).notes
    (choosing, rates, probes), (refitting, chosen, _) = fits
    assert torch.equal(choosing, train.features)
    assert rates == CONFIG.problems
    assert torch.equal(refitting, torch.cat([train.features, holdout.features]))
    [logits] = probes.in_chunks(holdout.features)
    top1 = [
        sum(
            int(logits[:, number, i].argmax()) == int(label)
            for i, label in enumerate(holdout.labels)
        )
        for number in range(4)
    ]
    best = max(top1)
    assert top1.count(best) == 1
    assert chosen == [CONFIG.problems[top1.index(best)]]
    assert notes["linear_probe/learning_rate"] == chosen[0].learning_rate
    assert notes["linear_probe/chosen_on"] == "hold-out"
    assert notes["linear_probe/chosen_top1"] == pytest.approx(100 * best / 60)


def test_equal_accuracy_is_decided_by_the_lower_loss() -> None:
    train, holdout = blobs(300, seed=0, noise=0.01), blobs(60, seed=1, noise=0.01)
    for rates in [(0.01, 0.1), (0.1, 1000.0)]:  # all are always right; the loss falls with the rate
        config = LinearProbeConfig(epochs=2, learning_rates=rates)
        (rate, _), notes = choose_problem([train, holdout], config, num_classes=6)
        assert notes["chosen_top1"] == 100
        assert rate == rates[1]


def test_test_labels_influence_neither_choice_nor_weights(
    fits: list[tuple[Tensor, Any, Any]],
) -> None:
    train, holdout, test = blobs(300, seed=0), blobs(60, seed=1), blobs(60, seed=2)
    wrong = table(test.features, test.labels.roll(1) + 3)
    found = ask(evaluate_linear_probe, train, holdout, test, CONFIG)
    found_wrong = ask(evaluate_linear_probe, train, holdout, wrong, CONFIG)
    assert found.metrics != found_wrong.metrics
    key = "linear_probe/learning_rate"
    assert found.notes[key] == found_wrong.notes[key]
    for (_, _, first), (_, _, second) in zip(fits[:2], fits[2:], strict=True):
        assert torch.equal(first.weight, second.weight)
        assert torch.equal(first.bias, second.bias)


def test_metrics_equal_a_loop_over_the_test_images(
    fits: list[tuple[Tensor, Any, Any]],
) -> None:
    test = blobs(60, seed=2, noise=2.0)
    metrics = ask(
        evaluate_linear_probe, blobs(300, seed=0), blobs(60, seed=1), test, CONFIG
    ).metrics
    [logits] = fits[-1][2].in_chunks(test.features)
    top1, top5 = 0, 0
    per_class: dict[int, list[bool]] = {label: [] for label in range(6)}
    for i, label in enumerate(test.labels.tolist()):
        ranked = sorted(range(6), key=lambda c: -float(logits[c, 0, i]))
        top1 += ranked[0] == label
        top5 += label in ranked[:5]
        per_class[label].append(ranked[0] == label)
    shares = [sum(right) / len(right) for right in per_class.values()]
    assert metrics == pytest.approx(
        {
            "linear_probe/top1": 100 * top1 / 60,
            "linear_probe/top5": 100 * top5 / 60,
            "linear_probe/mean_per_class": 100 * sum(shares) / 6,
        }
    )
    assert len({round(value, 3) for value in metrics.values()}) == 3


def test_a_separable_problem_is_solved_with_the_default_settings() -> None:
    train, holdout, test = (blobs(n, seed, noise=0.1) for n, seed in ((150, 0), (40, 1), (60, 2)))
    config = LinearProbeConfig(epochs=10)
    metrics = ask(evaluate_linear_probe, train, holdout, test, config).metrics
    assert set(metrics.values()) == {100.0}


def test_a_missing_holdout_is_refused_unless_there_is_nothing_to_choose() -> None:
    train, test = blobs(300, seed=0), blobs(60, seed=2)
    empty = table(train.features[:0], train.labels[:0])
    for holdout in (None, empty):
        with pytest.raises(InputError, match=r"^data\.holdout: .*set data\.holdout=0\.1"):
            ask(evaluate_linear_probe, train, holdout, test, CONFIG)
    one = LinearProbeConfig(epochs=2, learning_rates=(0.1,))
    found = ask(evaluate_linear_probe, train, None, test, one)
    assert found.metrics["linear_probe/top1"] > 50
    assert found.notes == {}


@pytest.mark.parametrize(
    ("rates", "warns"),
    [((0.1, 1e5), True), ((1e-7, 0.1), True), ((1e-7, 0.1, 1e5), False)],
)
def test_a_choice_at_the_edge_of_the_grid_is_reported(
    rates: tuple[float, ...], warns: bool
) -> None:
    train, holdout = blobs(300, seed=0, noise=2.0), blobs(200, seed=1, noise=2.0)
    config = LinearProbeConfig(epochs=10, batch_size=32, learning_rates=rates)
    (rate, _), notes = choose_problem([train, holdout], config, num_classes=6)
    assert rate == 0.1
    assert ("warning" in notes) == warns
    if warns:
        assert "0.1 is at the edge" in str(notes["warning"])


def test_a_diverged_rate_is_never_chosen() -> None:
    train = blobs(40, seed=0, classes=2)
    # a probe whose logits are not numbers answers 0, which here happens to be right
    holdout = table(train.features, torch.zeros(40, dtype=torch.int64))
    config = LinearProbeConfig(
        epochs=80, batch_size=8, learning_rates=(1e-3, 1e6), weight_decays=(0.5,)
    )
    (rate, _), notes = choose_problem([train, holdout], config, num_classes=2)
    assert rate == 1e-3
    assert 0 < float(notes["chosen_top1"]) < 100


def test_classes_of_one_split_only_are_named_and_count_as_missed() -> None:
    train, holdout, test = blobs(300, seed=0), blobs(60, seed=1), blobs(60, seed=2, noise=0.1)
    train = table(train.features[train.labels != 2], train.labels[train.labels != 2])
    holdout = table(holdout.features[holdout.labels != 2], holdout.labels[holdout.labels != 2])
    test_labels = test.labels.clone()
    test_labels[test_labels == 4] = 11
    found = ask(evaluate_linear_probe, train, holdout, table(test.features, test_labels), CONFIG)
    metrics, notes = found.metrics, found.notes
    assert notes["linear_probe/classes_only_in_test"] == "2, 11"
    assert notes["linear_probe/classes_only_in_train"] == "4"
    known = float(((test_labels != 2) & (test_labels != 11)).double().mean())
    assert metrics["linear_probe/top1"] == pytest.approx(100 * known)
    assert metrics["linear_probe/mean_per_class"] == pytest.approx(100 * 4 / 6)


def test_a_probe_of_augmented_views_never_sees_the_clean_ones_of_train() -> None:
    train, holdout, test = blobs(300, seed=0), blobs(60, seed=1), blobs(60, seed=2, noise=0.1)
    train, holdout = (replace(t, views=(-t.features, 0.1 - t.features)) for t in (train, holdout))
    config = LinearProbeConfig(epochs=6, learning_rates=(0.01, 0.1), augmented=True)
    found = ask(evaluate_linear_probe, train, holdout, test, config)
    assert found.metrics["linear_probe/top1"] < 10  # it learned the mirror image of every class
    clean = ask(evaluate_linear_probe, train, holdout, test, replace(config, augmented=False))
    assert clean.metrics["linear_probe/top1"] > 95


def test_scores_and_predictions_make_up_the_metrics() -> None:
    train, holdout, test = blobs(300, seed=0), blobs(60, seed=1), blobs(60, seed=2)
    found = ask(evaluate_linear_probe, train, holdout, test, CONFIG)
    right = (found.predictions["linear_probe"] == test.labels).double()
    assert torch.equal(found.scores["linear_probe/top1"], right)
    assert set(found.scores) == {"linear_probe/top1", "linear_probe/top5"}
    for name, scores in found.scores.items():
        assert found.metrics[name] == 100 * float(scores.mean())


def test_top5_is_reported_from_five_classes_on() -> None:
    for classes, reported in ((4, False), (5, True)):
        train, test = blobs(80, seed=0, classes=classes), blobs(30, seed=1, classes=classes)
        config = LinearProbeConfig(epochs=1, learning_rates=(0.1,))
        metrics = ask(evaluate_linear_probe, train, None, test, config).metrics
        assert ("linear_probe/top5" in metrics) == reported


@pytest.mark.parametrize("name", ["train", "hold-out", "test"])
def test_features_that_are_not_finite_are_named(name: str) -> None:
    tables = {part: blobs(50, seed) for seed, part in enumerate(("train", "hold-out", "test"))}
    tables[name].features[[7, 9], 0] = float("inf")
    with pytest.raises(InputError, match=f"^{name} features: 2 of 50 rows .* row 7,"):
        ask(evaluate_linear_probe, tables["train"], tables["hold-out"], tables["test"], CONFIG)


@pytest.mark.parametrize(
    "rates", [(), (0.0,), (-1.0, 1.0), (float("inf"),), (float("nan"),), (1.0, 0.1), (1.0, 1.0)]
)
def test_impossible_learning_rates_are_named(rates: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"^learning_rates: "):
        LinearProbeConfig(learning_rates=rates)


def test_the_settings_of_the_descent_are_checked_too() -> None:
    with pytest.raises(ValueError, match=r"^epochs: must be >= 1, got 0"):
        LinearProbeConfig(epochs=0)

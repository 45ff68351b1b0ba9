import math
from typing import Any

import pytest
import torch

from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.frequency import (
    FrequencyConfig,
    group_of_classes,
    with_frequency,
)

COUNTS = [500, 101, 100, 20, 19, 0]
TRAIN = torch.tensor([label for label, count in enumerate(COUNTS) for _ in range(count)])
TEST = torch.arange(6).repeat_interleave(4)


def guesses(seed: int) -> torch.Tensor:
    wrong = torch.rand(24, generator=torch.Generator().manual_seed(seed)) < 0.4
    return torch.where(wrong, (TEST + 1) % 6, TEST)


def test_the_groups_are_more_than_100_to_20_and_fewer() -> None:
    groups = group_of_classes(TRAIN, TEST, FrequencyConfig())
    assert groups is not None
    assert groups.tolist() == [0, 0, 1, 1, 2, 2]
    other = group_of_classes(TRAIN, TEST, FrequencyConfig(many_above=200, few_below=100))
    assert other is not None
    assert other.tolist() == [0, 1, 1, 2, 2, 2]


def test_a_group_is_the_accuracy_on_the_test_images_of_its_classes() -> None:
    predictions = {"knn/k=20": guesses(0), "linear_probe": guesses(1)}
    given = Evaluation(metrics={"knn/k=20/top1": 1.0}, predictions=predictions)
    found = with_frequency(given, TRAIN, TEST, FrequencyConfig())
    for key, predicted in predictions.items():
        for name, classes in {"many": (0, 1), "medium": (2, 3), "few": (4, 5)}.items():
            right = [
                guess == label
                for guess, label in zip(predicted.tolist(), TEST.tolist(), strict=True)
                if label in classes
            ]
            assert found.metrics[f"{key}/{name}"] == pytest.approx(100 * sum(right) / 8)
            scores = found.scores[f"{key}/{name}"]
            assert scores.isnan().sum() == 16
            assert 100 * float(scores.nanmean()) == pytest.approx(found.metrics[f"{key}/{name}"])
    assert found.metrics["knn/k=20/top1"] == 1.0
    assert given.metrics == {"knn/k=20/top1": 1.0}  # not changed in place


@pytest.mark.parametrize(
    ("counts", "report", "expected"),
    [
        ([101, 99], "auto", False),  # two groups, but balanced
        ([500, 101], "auto", False),  # imbalanced, but all have many
        ([200, 99], "auto", True),
        ([200, 99], "off", False),
        ([101, 99], "on", True),
    ],
)
def test_the_report_comes_where_train_is_imbalanced_or_it_is_asked_for(
    counts: list[int], report: Any, expected: bool
) -> None:
    train = torch.tensor([label for label, count in enumerate(counts) for _ in range(count)])
    test = torch.tensor([0, 1])
    given = Evaluation(metrics={}, predictions={"knn": test})
    found = with_frequency(given, train, test, FrequencyConfig(report=report))
    assert bool(found.metrics) is expected


def test_nothing_is_added_to_an_evaluator_that_predicts_no_class() -> None:
    given = Evaluation(metrics={"retrieval/map": 5.0})
    assert with_frequency(given, TRAIN, TEST, FrequencyConfig(report="on")) is given


def test_a_group_without_test_images_is_left_out() -> None:
    test = torch.tensor([0, 0, 4])
    given = Evaluation(metrics={}, predictions={"knn": torch.tensor([0, 1, 4])})
    found = with_frequency(given, TRAIN, test, FrequencyConfig())
    assert found.metrics == {"knn/many": 50.0, "knn/few": 100.0}
    assert math.isnan(float(found.scores["knn/few"][0]))


@pytest.mark.parametrize(
    ("settings", "key"), [({"few_below": 0}, "few_below"), ({"many_above": 18}, "many_above")]
)
def test_thresholds_that_contradict_each_other_are_refused(
    settings: dict[str, Any], key: str
) -> None:
    with pytest.raises(ValueError, match=f"^{key}: must be"):
        FrequencyConfig(**settings)

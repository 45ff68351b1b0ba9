import math
import random

import numpy as np
import pytest
import torch

from linear_eval.results.intervals import (
    _uniform,
    bootstrap_intervals,
    format_interval,
    format_range,
    mean_scores,
    metric_intervals,
    wilson_interval,
)

NAN = math.nan


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(
    right: int, total: int, low: float, high: float
) -> None:
    assert wilson_interval(right, total) == pytest.approx((low, high), abs=5e-5)
    flipped = wilson_interval(total - right, total)
    assert flipped == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_bounds_are_the_shares_whose_z_test_just_accepts() -> None:
    share = 37 / 90
    for bound in wilson_interval(37, 90):
        z = abs(share - bound) / math.sqrt(bound * (1 - bound) / 90)
        assert z == pytest.approx(1.959964, abs=1e-5)


def test_all_right_and_all_wrong_end_exactly_at_the_ends() -> None:
    assert wilson_interval(0, 7)[0] == 0
    assert wilson_interval(7, 7)[1] == 1
    assert wilson_interval(7, 7)[0] > 0.5


def test_wilson_covers_the_truth_95_times_in_100() -> None:
    draws = random.Random(0)
    covered = 0
    for _ in range(2000):
        right = sum(draws.random() < 0.9 for _ in range(60))
        low, high = wilson_interval(right, 60)
        covered += low <= 0.9 <= high
    assert 0.93 < covered / 2000 < 0.975


def _columns(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, columns, generator=generator, dtype=torch.float64)


def test_the_bootstrap_equals_the_normal_interval_of_many_images() -> None:
    scores = _columns(3000, 2) ** 2
    bounds = bootstrap_intervals(scores.numpy(), torch.zeros(3000, dtype=torch.int64).numpy())
    half = 1.96 * scores.std(dim=0) / math.sqrt(3000)
    for column, bound in enumerate(bounds):
        mean = float(scores[:, column].mean())
        expected = (mean - float(half[column]), mean + float(half[column]))
        assert bound == pytest.approx(expected, abs=0.08 * float(half[column]))


def test_the_bootstrap_covers_the_truth_95_times_in_100() -> None:
    covered = 0
    labels = torch.zeros(80, dtype=torch.int64)
    table = _columns(80, 1000, seed=5)  # 1,000 experiments at once, true mean 1/2
    for bound in bootstrap_intervals(table.numpy(), labels.numpy(), resamples=1000):
        assert bound is not None
        covered += bound[0] <= 0.5 <= bound[1]
    assert 0.92 < covered / 1000 < 0.975


def test_a_mean_per_class_is_resampled_within_its_classes() -> None:
    labels = torch.tensor([0] * 500 + [1] * 50)
    scores = torch.cat([(_columns(500, 1, 1) < 0.9), (_columns(50, 1, 2) < 0.4)]).double()
    [bound] = bootstrap_intervals(scores.numpy(), labels.numpy(), per_class=True)
    shares = [float(scores[:500].mean()), float(scores[500:].mean())]
    error = math.sqrt(shares[0] * (1 - shares[0]) / 500 + shares[1] * (1 - shares[1]) / 50) / 2
    mean = sum(shares) / 2
    assert mean_scores(scores.numpy(), labels.numpy(), per_class=True) == [pytest.approx(mean)]
    expected = (mean - 1.96 * error, mean + 1.96 * error)
    assert bound == pytest.approx(expected, abs=0.15 * error)


def test_resampled_classes_carry_all_their_images() -> None:
    # within a class all images score alike: 60 classes are 60 observations, not 600
    labels = torch.arange(60).repeat_interleave(10)
    scores = _columns(60, 1, 3).repeat_interleave(10, dim=0)
    [by_class] = bootstrap_intervals(scores.numpy(), labels.numpy(), unit="class")
    [by_image] = bootstrap_intervals(scores.numpy(), labels.numpy())
    error = float(scores[::10].std(correction=0)) / math.sqrt(60)
    mean = float(scores.mean())
    expected = (mean - 1.96 * error, mean + 1.96 * error)
    assert by_class == pytest.approx(expected, abs=0.25 * error)
    assert by_image is not None
    assert by_class is not None
    assert by_class[1] - by_class[0] > 2.5 * (by_image[1] - by_image[0])


def test_images_that_were_not_asked_count_in_no_mean() -> None:
    scores = torch.cat([_columns(200, 1), torch.full((50, 1), NAN, dtype=torch.float64)])
    labels = torch.arange(250) % 5
    asked = ~scores[:, 0].isnan()
    assert mean_scores(scores.numpy(), labels.numpy()) == [
        pytest.approx(float(scores[asked].mean()))
    ]
    [bound] = bootstrap_intervals(scores.numpy(), labels.numpy())
    [without] = bootstrap_intervals(scores[asked].numpy(), labels[asked].numpy())
    assert bound == pytest.approx(without, abs=0.01)


@pytest.mark.parametrize("per_class", [False, True])
def test_the_working_memory_changes_nothing(per_class: bool) -> None:
    scores, labels = _columns(700, 2), torch.arange(700) % 3
    large = bootstrap_intervals(scores.numpy(), labels.numpy(), per_class=per_class, memory_mib=64)
    small = bootstrap_intervals(scores.numpy(), labels.numpy(), per_class=per_class, memory_mib=1)
    for one, other in zip(large, small, strict=True):
        assert one == pytest.approx(other, abs=1e-12)


def test_a_single_unit_has_no_interval() -> None:
    scores, labels = _columns(5, 1), torch.zeros(5, dtype=torch.int64)
    assert bootstrap_intervals(scores.numpy(), labels.numpy(), unit="class") == [None]
    assert bootstrap_intervals(scores[:1].numpy(), labels[:1].numpy()) == [None]
    assert bootstrap_intervals(scores.numpy(), labels.numpy()) != [None]


def test_every_metric_gets_the_interval_of_its_kind_in_percent() -> None:
    labels = torch.arange(400) % 4
    right = (_columns(400, 1)[:, 0] < 0.7).double()
    scores = {
        "linear_probe/top1": right,
        "retrieval/map": _columns(400, 1, 1)[:, 0],
        "retrieval/recall@1": right,
    }
    metrics = ["retrieval/recall@1", "linear_probe/mean_per_class", "linear_probe/top1", "rankme"]
    arrays = {key: values.numpy() for key, values in scores.items()}
    found = metric_intervals(
        [*metrics, "retrieval/map"], arrays, labels.numpy(), by_class=metrics[:1]
    )
    assert list(found) == [*metrics[:3], "retrieval/map"]
    low, high = wilson_interval(int(right.sum()), 400)
    assert found["linear_probe/top1"] == (100 * low, 100 * high)
    [by_class] = bootstrap_intervals(right[:, None].numpy(), labels.numpy(), unit="class")
    assert by_class is not None
    assert found["retrieval/recall@1"] == (100 * by_class[0], 100 * by_class[1])
    [stratified] = bootstrap_intervals(right[:, None].numpy(), labels.numpy(), per_class=True)
    assert stratified is not None
    assert found["linear_probe/mean_per_class"] == pytest.approx([100 * x for x in stratified])
    assert 40 < found["retrieval/map"][0] < 50 < found["retrieval/map"][1] < 60


def test_classes_all_right_or_all_wrong_give_no_interval_of_their_mean() -> None:
    labels = np.arange(8) % 4
    scores = {"probe/top1": (labels == 0).astype(float)}
    found = metric_intervals(["probe/top1", "probe/mean_per_class"], scores, labels)
    assert list(found) == ["probe/top1"]


def test_images_not_asked_do_not_widen_a_share() -> None:
    scores = torch.tensor([1.0, 0.0, 1.0, NAN, NAN])
    found = metric_intervals(["r@1"], {"r@1": scores.numpy()}, np.zeros(5, np.int64))
    assert found["r@1"] == tuple(100 * bound for bound in wilson_interval(2, 3))


def test_intervals_and_margins_read_well() -> None:
    assert format_interval(88.49, (86.41, 90.3)) == "88.5 [86.4, 90.3]"
    assert format_interval(88.49, None) == "88.5"
    assert format_range((86.41, 90.29)) == "86.4-90.3"
    assert format_range((88.49, 88.5)) == "88.4-88.5"
    assert format_range((75.3, 100.0)) == "75.3-100.0"
    assert format_range(None) == "-"


def test_the_draws_are_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(7)
    drawn = np.random.RandomState(7)
    for rows, columns in ((3, 41), (5, 2)):
        expected = torch.rand(rows, columns, generator=generator, dtype=torch.float64)
        assert (_uniform(drawn, rows, columns) == expected.numpy()).all()

"""Differences, intervals and what they are called. Run: pytest tests/ssl_bf/worth."""

from dataclasses import replace

import numpy as np
import pytest

import ssl_bf.worth.verdict
from ssl_bf.worth.contest import Contestant
from ssl_bf.worth.difference import PRIOR_SPREAD, Difference, difference
from ssl_bf.worth.verdict import Answer, answers, few_labels, sentences

NUMBERS = (1, 2, 5, 10, 50)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Seeds scatter as expected, and images are drawn anew: an interval for both."""
    random, covered, trials = np.random.default_rng(0), 0, 600
    for _ in range(trials):
        drawn = random.random(300)
        ours, theirs = (
            [(drawn < 0.6 + random.normal(0, PRIOR_SPREAD / 100)).astype(float) for _ in range(2)]
            for _ in range(2)
        )
        found = difference(ours, theirs, ours_vary=True, theirs_vary=True)
        covered += found.interval[0] <= 0 <= found.interval[1]
    assert covered / trials > 0.93


def test_one_seed_makes_the_interval_wider_and_no_training_narrower() -> None:
    random = np.random.default_rng(1)
    ours = [(random.random(2000) < 0.6).astype(float) for _ in range(3)]
    theirs = [(random.random(2000) < 0.5).astype(float)]

    def width(seeds: int, theirs_vary: bool) -> float:
        found = difference(ours[:seeds], theirs, ours_vary=True, theirs_vary=theirs_vary)
        assert found.points == pytest.approx(
            100 * (np.mean(ours[:seeds]) - np.mean(theirs)), abs=1e-9
        )
        return found.interval[1] - found.interval[0]

    assert width(1, True) > width(1, False) > width(3, False)


def test_equal_scores_without_noise_are_no_difference() -> None:
    scores = [np.ones(10)]
    found = difference(scores, scores, ours_vary=False, theirs_vary=False)
    assert (found.points, found.interval, found.is_clear) == (0.0, (0.0, 0.0), False)


def answer(labels: int | None, points: float, half: float = 1.0) -> Answer:
    found = Difference(points=points, interval=(points - half, points + half), of_images=0.5)
    return Answer(labels=labels, accuracy=60.0, rival="pixels", found=found)


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ((3, 3, 2, 2, 2), "ahead at every number tried, 1 to 50 a class (clearly ahead at 1, 2"),
        ((-3, -3, -2, -2, -0.5), "behind at every number tried, 1 to 50 a class (clearly behind"),
        (
            (3, 3, 2, 1.5, -1.5),
            "ahead below about 22 labels a class (clearly ahead at 1, 2, 5, 10;",
        ),
        ((-0.5, -0.5, 0.5, 0.5, 0.5), "ahead above about 3 labels a class (nowhere clearly)"),
        ((2, -2, 2, -2, 2), "ahead at 1, 5, 50 a class and behind elsewhere"),
    ],
)
def test_the_crossing_in_words(points: tuple[float, ...], says: str) -> None:
    found = few_labels(
        [answer(n, p) for n, p in zip(NUMBERS, points, strict=True)], with_all=points[-1]
    )
    assert says in found


def test_a_crossing_that_all_labels_undo_is_not_named() -> None:
    points = (-0.5, -0.5, 0.5, 0.5, 0.5)
    few = [answer(n, p) for n, p in zip(NUMBERS, points, strict=True)]
    assert "ahead at 5, 10, 50 a class and behind elsewhere" in few_labels(few, with_all=-10.0)


def test_who_else_did_better_on_the_test_images_is_named() -> None:
    found = replace(answer(None, 0.5), above=(("random", 66.7), ("file", 61.0)))
    [first, *_] = sentences("moco_v2", [found], test_images=100, seeds=1)
    assert first.endswith("On these also above it: a random network 66.7 %, file 61.0 %.")


@pytest.mark.parametrize(
    ("against", "rival", "points"),
    [
        ({"lucky": 8.0, "better": 0.5}, "better", 0.5),  # the lucky one proves nothing
        ({"lucky": 0.5, "better": -3.0}, "lucky", 0.5),
        ({"lucky": -3.0, "better": 8.0}, "lucky", -3.0),
    ],
)
def test_who_was_lucky_on_the_holdout_is_not_the_only_rival(
    against: dict[str, float], rival: str, points: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compared(finalist: Contestant, other: Contestant, budget: int | None) -> Answer:
        return replace(answer(budget, against[other.name]), rival=other.name)

    monkeypatch.setattr(ssl_bf.worth.verdict, "_against", compared)
    monkeypatch.setattr(ssl_bf.worth.verdict, "accuracy", lambda each, *_: each.name == "lucky")
    monkeypatch.setattr(Contestant, "at", lambda *_: [None])
    [found] = answers(Contestant(name="moco_v2"), [Contestant(name=n) for n in against], ())
    assert (found.rival, found.found.points) == (rival, points)


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (3.0, "Pretraining pays on"),
        (-3.0, "Pretraining does not pay on"),
        (0.5, "It is not clear whether pretraining pays on"),
    ],
)
def test_what_is_not_clear_is_said_to_be_so(points: float, says: str) -> None:
    said = sentences("moco_v2", [answer(None, points)], test_images=100, seeds=1)
    assert said[0].startswith(says)
    assert f"{points:+.1f} points against raw pixels" in said[0]
    assert "one seed" in said[-1]

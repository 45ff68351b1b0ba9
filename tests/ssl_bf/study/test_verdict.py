"""What is said about a contrast follows from its numbers."""

import pytest

from ssl_bf.study.verdict import Asked, Verdict, answer

M = "knn/k=20/top1"


def asked(arm: str = "b", *, margin: float = 0.5, before: bool = True) -> Asked:
    return Asked(arm=arm, against="a", metric=M, margin=margin, stated_before=before)


def answered(*differences: float, margin: float = 0.5) -> Verdict:
    values = {
        "a": {seed: {M: 50.0} for seed in range(len(differences))},
        "b": {seed: {M: 50.0 + each} for seed, each in enumerate(differences)},
    }
    [found] = answer([asked(margin=margin)], values, range(len(differences)))
    return found


@pytest.mark.parametrize(
    ("differences", "sentence"),
    [
        ((2.0, 2.5, 1.5, 2.2, 1.8), "+2.0 points, 95 % interval +1.5 to +2.5: b is better than a"),
        ((-2.0, -2.5, -1.5), "-2.0 points, 95 % interval -3.2 to -0.8: b is worse than a"),
        (
            (0.2, 0.25, 0.3, 0.2, 0.25),
            "+0.2 points, 95 % interval +0.2 to +0.3: b is better than a, but by less than 0.5",
        ),
        ((0.1, -0.1, 0.0, 0.05, -0.05), "+0.0 points, 95 % interval -0.1 to +0.1: equal within "),
        ((0.0, 0.0), "+0.0 points, 95 % interval +0.0 to +0.0: equal within +-0.5"),
        ((1.0, 1.0), "+1.0 points, 95 % interval +1.0 to +1.0: the same in 2 pairs, too few to"),
        (
            (1.0, -0.5, 0.7, -0.1, 0.9),
            "+0.4 points, 95 % interval -0.4 to +1.2: inside the noise; 5 more seeds would settle",
        ),
    ],
)
def test_the_sentence(differences: tuple[float, ...], sentence: str) -> None:
    assert answered(*differences).sentence.startswith(sentence)


def test_more_seeds_than_anybody_trains_are_said_so() -> None:
    assert "even 1,000 seeds would not settle +-0.1" in answered(20, -30, 5, margin=0.1).sentence


def test_a_contrast_stated_later_is_corrected_for_all_and_the_earlier_for_each_other() -> None:
    drift = [0.3, 0.9, 0.5, 0.7]
    values = {"a": {s: {M: 50.0} for s in range(4)}}
    for arm, step in (("b", 1.0), ("c", 0.2), ("d", 1.0)):
        values[arm] = {s: {M: 50 + step * drift[s] - 0.1 * s * (arm == "c")} for s in range(4)}
    early, other, late = answer(
        [asked("b"), asked("c"), asked("d", before=False)], values, range(4)
    )
    assert early.test.p == late.test.p
    assert early.p_holm == pytest.approx(2 * early.test.p)
    assert late.p_holm == pytest.approx(3 * late.test.p)
    assert other.p_holm >= early.p_holm


def test_missing_pairs_are_said_and_a_contrast_of_one_pair_is_none() -> None:
    values = {"a": {s: {M: 1.0} for s in range(3)}, "b": {0: {M: 2.0}, 2: {M: 4.0}}}
    [found] = answer([asked()], values, range(3))
    assert found.sentence.endswith("(1 pair(s) missing)")
    assert answer([asked()], {"a": values["a"], "b": {0: {M: 2.0}}}, range(3)) == []

"""Properties of the stratified parts of a split."""

from collections import Counter
from dataclasses import replace
from hashlib import blake2b

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from linear_eval.datasets import TexturesConfig
from linear_eval.datasets.dataset import ImageSplit, MemoryReader
from linear_eval.datasets.selection import (
    limit_images,
    long_tailed,
    open_selected_train,
    select_train,
    split_holdout,
)
from linear_eval.system.errors import InputError

LABELS = st.lists(st.integers(-1, 5), min_size=1, max_size=120)
LONG = st.lists(st.integers(-1, 5), min_size=10, max_size=60)
SHARES = st.floats(0, 0.99)
FRACTIONS = st.floats(0, 0.5)


def split_of(labels: list[int], ids: list[str] | None = None) -> ImageSplit:
    names = tuple(ids or [f"class {label}/{i}.jpg" for i, label in enumerate(labels)])
    return ImageSplit(
        ids=names,
        labels=torch.tensor(labels, dtype=torch.int64),
        class_names=tuple("abcdef"),
        read=MemoryReader(torch.zeros(len(labels), 3, 1, 1, dtype=torch.uint8)),
        fingerprint="",
    )


def counts(split: ImageSplit) -> Counter[int]:
    return Counter(split.labels.tolist())


@given(LABELS, FRACTIONS)
def test_the_holdout_has_the_rounded_share_of_each_class(
    labels: list[int], fraction: float
) -> None:
    _, holdout = split_holdout(split_of(labels), fraction)
    for label, count in Counter(labels).items():
        expected = max(1, round(fraction * count)) if fraction > 0 and count > 1 else 0
        assert counts(holdout)[label] == expected


@given(LABELS, FRACTIONS)
def test_rest_and_holdout_divide_the_split_in_its_order(labels: list[int], fraction: float) -> None:
    split = split_of(labels)
    rest, holdout = split_holdout(split, fraction)
    assert not set(rest.ids) & set(holdout.ids)
    assert set(rest.ids) | set(holdout.ids) == set(split.ids)
    assert set(rest.labels.tolist()) == set(labels)  # no class is lost to the hold-out
    for part in (rest, holdout):
        rows = [split.ids.index(name) for name in part.ids]
        assert rows == sorted(rows)
        assert part.labels.tolist() == [labels[row] for row in rows]


def test_the_images_with_the_smallest_hash_are_held_out() -> None:
    split = split_of([0] * 20)
    _, holdout = split_holdout(split, 0.3)
    ranked = sorted(split.ids, key=lambda name: blake2b(name.encode(), digest_size=16).digest())
    assert set(holdout.ids) == set(ranked[:6])


@given(LONG, st.integers(0, 2**32), SHARES)
def test_the_choice_does_not_depend_on_the_order(
    labels: list[int], seed: int, share: float
) -> None:
    split, n = split_of(labels), max(1, int(share * len(labels)))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    shuffled = split.select(order)
    assert set(split_holdout(split, 0.3)[1].ids) == set(split_holdout(shuffled, 0.3)[1].ids)
    assert set(limit_images(split, n).ids) == set(limit_images(shuffled, n).ids)


@given(st.integers(4, 60))
def test_other_images_never_bring_an_image_back_into_the_holdout_order(count: int) -> None:
    # Dropping one image moves at most one other across the border of its class.
    ids = [f"{i}" for i in range(count)]
    whole = set(split_holdout(split_of([0] * count, ids), 0.25)[1].ids)
    fewer = set(split_holdout(split_of([0] * (count - 1), ids[1:]), 0.25)[1].ids)
    assert len((whole - {"0"}) ^ fewer) <= 1


@given(LONG, SHARES)
def test_a_limit_is_met_and_shared_among_the_classes(labels: list[int], share: float) -> None:
    split = split_of(labels)
    limit = max(1, int(share * len(labels)))
    part = limit_images(split, limit)
    assert set(part.labels.tolist()) == set(labels)
    before, after = Counter(labels), counts(part)
    floored = sum(after[label] == 1 for label in before)
    assert min(limit, len(split)) <= len(part) <= min(limit, len(split)) + floored
    for label, count in before.items():
        assert after[label] == 1 or abs(after[label] - count * min(1, limit / len(split))) < 1
    rows = [split.ids.index(name) for name in part.ids]
    assert rows == sorted(rows)


@pytest.mark.parametrize("limit", [None, 7, 100])
def test_a_limit_that_binds_nothing_returns_the_split_itself(limit: int | None) -> None:
    split = split_of([0, 1, 1, 0, 2, 2, 2])
    assert limit_images(split, limit) is split


def test_a_smaller_limit_keeps_a_part_of_what_a_larger_one_keeps() -> None:
    split = split_of([0, 1] * 50)
    kept = [set(limit_images(split, limit).ids) for limit in (10, 30, 60)]
    assert kept[0] < kept[1] < kept[2]


def test_a_limited_train_set_does_not_favour_the_holdout() -> None:
    split = split_of([0] * 2000)
    held = set(split_holdout(split, 0.1)[1].ids)
    share = len(held & set(limit_images(split, 400).ids)) / 400
    assert 0.05 < share < 0.15  # 0.1 +- 3.3 standard deviations; 0.5 with one hash for both


def test_a_fraction_of_zero_holds_nothing_out() -> None:
    rest, holdout = split_holdout(split_of([0, 0, 1]), 0)
    assert len(rest) == 3
    assert len(holdout) == 0


@pytest.mark.parametrize("fraction", [-0.01, 0.51, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="holdout: must be between 0 and 0.5"):
        split_holdout(split_of([0, 1]), fraction)


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="max_images: must be >= 1"):
        limit_images(split_of([0, 1]), 0)


@pytest.mark.parametrize("long_tail", [None, 10.0])
def test_fewer_images_than_classes_are_refused(long_tail: float | None) -> None:
    data = TexturesConfig(train_images=200, max_images=9, long_tail=long_tail)
    with pytest.raises(InputError, match=r"^data.max_images: 9 .* 10 classes .*max_images=10 or"):
        open_selected_train(data)
    assert counts(open_selected_train(replace(data, max_images=10))).keys() == set(range(10))


def test_images_without_a_label_may_be_cut_to_one() -> None:
    assert len(select_train(split_of([-1] * 5), TexturesConfig(max_images=1))) == 1


def test_the_long_tail_is_that_of_the_published_cifar_10_splits() -> None:
    names = tuple(f"{i}" for i in range(50_000))
    split = ImageSplit(
        ids=names,
        labels=torch.arange(50_000) % 10,
        class_names=tuple("abcdefghij"),
        read=MemoryReader(torch.zeros(0)),
        fingerprint="",
    )
    published = {
        100.0: [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50],
        10.0: [5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500],
        1.0: [5000] * 10,
    }
    for factor, expected in published.items():
        assert long_tailed(split, factor).labels.bincount().tolist() == expected


@given(LABELS, st.floats(1, 1e6))
def test_a_long_tail_loses_no_class_and_keeps_the_order(labels: list[int], factor: float) -> None:
    split = split_of(labels)
    tail = long_tailed(split, factor)
    assert set(tail.labels.tolist()) == set(labels)
    assert counts(tail)[0] == counts(split)[0]
    assert counts(tail)[-1] == counts(split)[-1]  # images without a label
    rows = [split.ids.index(name) for name in tail.ids]
    assert rows == sorted(rows)
    assert [split.ids[row] for row in rows] == list(tail.ids)
    assert long_tailed(split, None) is split


def test_train_is_thinned_out_before_it_is_cut() -> None:
    data = TexturesConfig(train_images=200, test_images=10, long_tail=10, max_images=40)
    train = open_selected_train(data)
    assert len(train) == 40
    whole = long_tailed(data.open_train(), 10.0)
    assert train.ids == limit_images(whole, 40).ids
    assert set(train.ids) < set(whole.ids)
    assert counts(train)[0] > 2 * counts(train)[9]

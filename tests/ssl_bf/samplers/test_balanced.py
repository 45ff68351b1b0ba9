"""The laws of the samplers, for any classes, sizes and numbers of processes."""

from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from linear_eval.system.errors import InputError
from ssl_bf.samplers.balanced import ClassBalancedConfig, DomainBalancedConfig
from ssl_bf.samplers.sampler import Dealt, EveryImage, Pool, Sampler

EPOCHS = 2


@dataclass(frozen=True)
class Case:
    sizes: list[int]  # of the classes
    images: int  # per class and batch
    classes: int  # per batch
    seed: int

    @property
    def labels(self) -> Tensor:
        labels = torch.repeat_interleave(torch.arange(len(self.sizes)), torch.tensor(self.sizes))
        return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]

    def sampler(self) -> Sampler:
        pool = Pool(self.seed, self.images * self.classes, self.labels)
        return ClassBalancedConfig(images_per_class=self.images).build(pool)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    sizes = draw(st.lists(st.integers(1, 20), min_size=2, max_size=7))
    images = draw(st.integers(1, 6))
    return Case(sizes, images, draw(st.integers(1, len(sizes))), draw(st.integers(0, 9)))


def batch(sampler: Sampler, epoch: int, number: int) -> Dealt:
    return sampler.deal(epoch, number, torch.arange(sampler.pool.batch_size))


def epoch_of(sampler: Sampler, epoch: int) -> list[Dealt]:
    return [batch(sampler, epoch, number) for number in range(sampler.steps_per_epoch)]


@given(cases())
@settings(max_examples=60, deadline=None)
def test_the_laws_of_a_balanced_batch_and_epoch(case: Case) -> None:
    sampler, labels = case.sampler(), case.labels
    assert sampler.steps_per_epoch == len(labels) // (case.images * case.classes)
    for epoch in range(EPOCHS):
        dealt = epoch_of(sampler, epoch)
        for rows, showings in dealt:
            counts = Counter(labels[rows].tolist())
            assert len(counts) == case.classes
            assert set(counts.values()) == {case.images}
            images = Counter(rows.tolist())
            for row, times in images.items():  # repeated only where the class is too small
                size = case.sizes[int(labels[row])]
                assert times <= -(-case.images // size)
            assert bool((showings >= 0).all())
        named = [pair for each in dealt for pair in zip(*(x.tolist() for x in each), strict=True)]
        assert len(named) == len(set(named))  # a number for every showing


@given(cases(), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_shares_of_processes_make_the_batch_of_one(case: Case, processes: int) -> None:
    whole, again = case.sampler(), case.sampler()
    for number in range(min(3, whole.steps_per_epoch)):
        rows, showings = batch(whole, 1, number)
        shares = [
            again.deal(1, number, places)
            for places in torch.arange(len(rows)).tensor_split(processes)
        ]
        assert torch.equal(torch.cat([share.rows for share in shares]), rows)
        assert torch.equal(torch.cat([share.showings for share in shares]), showings)


@given(cases())
@settings(max_examples=40, deadline=None)
def test_a_substitute_is_of_the_same_class_and_of_no_other_batch_place(case: Case) -> None:
    sampler, labels = case.sampler(), case.labels
    if not sampler.steps_per_epoch:
        return
    rows, _ = batch(sampler, 0, 0)
    first: list[int] = []
    for place, row in enumerate(rows.tolist()):
        tries = list(sampler.substitutes(0, 0, place))
        assert {int(labels[other]) for other in tries} == {int(labels[row])}
        assert set(tries) | {row} == set((labels == labels[row]).nonzero().flatten().tolist())
        if case.sizes[int(labels[row])] >= 2 * case.images:
            first.append(tries[0])
    assert not set(first) & set(rows.tolist())
    assert len(first) == len(set(first))  # two bad images are replaced by different ones


def test_the_classes_that_meet_differ_from_epoch_to_epoch_and_with_the_seed() -> None:
    def classes(seed: int, epoch: int) -> list[list[int]]:
        case = Case([10] * 12, images=2, classes=4, seed=seed)
        sampler = case.sampler()
        return [case.labels[rows].unique().tolist() for rows, _ in epoch_of(sampler, epoch)]

    first = classes(0, 0)
    assert first == classes(0, 0)
    for other in (classes(0, 1), classes(1, 0)):
        assert first != other
    rounds = [first[start : start + 3] for start in range(0, 15, 3)]
    for three in rounds:  # a round shows every class once
        assert sorted(label for each in three for label in each) == list(range(12))
    assert len({str(three) for three in rounds}) == len(rounds)


def test_an_epoch_shows_every_image_of_equal_classes_once() -> None:
    case = Case([12] * 4, images=3, classes=2, seed=0)
    rows = torch.cat([rows for rows, _ in epoch_of(case.sampler(), 0)])
    assert rows.sort().values.tolist() == list(range(48))


def test_the_classes_left_over_of_a_round_are_dropped_and_not_always_the_same() -> None:
    case = Case([30] * 5, images=3, classes=2, seed=0)
    dealt = epoch_of(case.sampler(), 0)
    rounds = [dealt[start : start + 2] for start in range(0, len(dealt), 2)]
    dropped = set()
    for two in rounds[:10]:
        there = {int(label) for rows, _ in two for label in case.labels[rows]}
        assert len(there) == 4
        dropped |= set(range(5)) - there
    assert len(dropped) > 1


def test_every_process_has_all_classes_where_it_has_as_many_places() -> None:
    case = Case([9] * 4, images=4, classes=4, seed=0)
    sampler = case.sampler()
    half = sampler.deal(0, 0, torch.arange(8))
    assert sorted(case.labels[half.rows].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_domains_share_every_batch_equally() -> None:
    domains = torch.tensor([4] * 30 + [1] * 9 + [7] * 21)
    pool = Pool(0, 12, torch.full((60,), -1), domains)
    sampler = DomainBalancedConfig().build(pool)
    assert sampler.steps_per_epoch == 5
    assert sampler.images_per_class is None
    for rows, _ in epoch_of(sampler, 0):
        assert Counter(domains[rows].tolist()) == {1: 4, 4: 4, 7: 4}
        assert len(rows.unique()) == 12


def test_every_image_is_shown_at_most_once_per_epoch() -> None:
    sampler = EveryImage(Pool(0, 4, torch.zeros(22)))
    rows = torch.cat([rows for rows, _ in epoch_of(sampler, 0)])
    assert len(rows) == len(rows.unique()) == 20


@pytest.mark.parametrize(
    ("images", "batch_size", "said"),
    [
        (4, 10, "sampler.images_per_class: 4 does not divide batch_size 10"),
        (2, 8, "batch_size: 8 with sampler.images_per_class=2 takes 4 classes, train has 3"),
    ],
)
def test_a_batch_that_is_not_made_of_classes_is_one_line(
    images: int, batch_size: int, said: str
) -> None:
    config = ClassBalancedConfig(images_per_class=images)
    with pytest.raises(InputError, match=said):
        config.build(Pool(0, batch_size, torch.arange(30) % 3))


def test_missing_labels_and_domains_are_one_line() -> None:
    pool = Pool(0, 8, torch.tensor([0, -1] * 10))
    with pytest.raises(InputError, match="needs labels, 10 of 20 training images have none"):
        ClassBalancedConfig().build(pool)
    with pytest.raises(InputError, match="domain_balanced needs data with domains"):
        DomainBalancedConfig().build(pool)
    three = Pool(0, 8, pool.labels, torch.arange(20) % 3)
    with pytest.raises(InputError, match="cannot be shared equally by 3 domains .* batch_size=9"):
        DomainBalancedConfig().build(three)
    with pytest.raises(ValueError, match="images_per_class: must be >= 1"):
        ClassBalancedConfig(images_per_class=0)

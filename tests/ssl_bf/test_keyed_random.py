import itertools
import math
import random
import resource
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_bf.keyed_random import StepContext, generator, key, shuffled, uniform

MASK = (1 << 64) - 1


def splitmix64_finaliser(bits: int) -> int:
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK
    return bits ^ (bits >> 31)


def uniform_by_definition(seed_key: int, row: int, draw: int) -> float:
    golden = 0x9E3779B97F4A7C15
    start = splitmix64_finaliser((seed_key + (row + 1) * golden) & MASK)
    return math.ldexp(splitmix64_finaliser((start + (draw + 1) * golden) & MASK) >> 40, -24)


def largest_deviation_from_uniform(values: Tensor) -> float:
    """Kolmogorov-Smirnov distance times the root of the number of values."""
    ordered = values.flatten().double().sort().values
    steps = torch.arange(1, len(ordered) + 1) / len(ordered)
    return float((ordered - steps).abs().max()) * math.sqrt(len(ordered))


def correlation(first: Tensor, second: Tensor) -> float:
    return float(torch.corrcoef(torch.stack((first.flatten(), second.flatten())))[0, 1])


def test_key_is_the_recorded_one() -> None:
    assert key("a") == 8971770946745180484
    assert key(1, "a") == 294328509404019414
    assert 0 <= key(3) < 2**63


@pytest.mark.parametrize(
    ("parts", "others"),
    [
        (("ab", "c"), ("a", "bc")),
        ((1,), ("1",)),
        ((1, 2), (2, 1)),
        ((12,), (1, 2)),
        (("a",), ("a", "")),
        ((-1,), (1,)),
    ],
)
def test_different_parts_have_different_keys(
    parts: tuple[int | str, ...], others: tuple[int | str, ...]
) -> None:
    assert key(*parts) != key(*others)
    assert key(*parts) == key(*parts)


def test_uniform_equals_splitmix64_in_plain_integers() -> None:
    rows = torch.tensor([0, 1, 7, -1, 2**40, 2**63 - 1])
    for seed_key in (0, key("a"), 2**63 - 1):
        numbers = uniform(seed_key, rows, 5)
        for i, row in enumerate(rows.tolist()):
            for j in range(5):
                assert numbers[i, j].item() == uniform_by_definition(seed_key, row, j)


def test_uniform_gives_the_recorded_numbers() -> None:
    numbers = uniform(key("a"), torch.tensor([0, 5]), 3)
    recorded = torch.tensor([[6899708, 192108, 14406763], [4623272, 3492230, 10738054]])
    assert torch.equal((numbers * 2**24).long(), recorded)


def test_a_row_has_the_same_numbers_in_any_company_and_for_any_number_of_draws() -> None:
    rows = torch.arange(1000)
    everything = uniform(key("x"), rows, 30)
    some = torch.tensor([999, 3, 3, 500])
    assert torch.equal(uniform(key("x"), some, 30), everything[some])
    assert torch.equal(uniform(key("x"), rows, 7), everything[:, :7])


def test_numbers_are_uniform_along_draws_rows_and_keys() -> None:
    one = torch.zeros(1, dtype=torch.int64)
    along_draws = uniform(key("x"), one, 20_000)
    along_rows = uniform(key("x"), torch.arange(20_000), 1)
    along_keys = torch.cat([uniform(key("x", i), one, 1) for i in range(5000)])
    for numbers in (along_draws, along_rows, along_keys):
        assert numbers.min() >= 0
        assert numbers.max() < 1
        assert largest_deviation_from_uniform(numbers) < 1.95  # exceeded by chance in 1 of 1,000
        assert abs(float(numbers.mean()) - 0.5) < 4 * (1 / 12 / numbers.numel()) ** 0.5
        assert abs(float(numbers.var()) - 1 / 12) < 4 * (1 / 180 / numbers.numel()) ** 0.5


def test_neighbouring_rows_draws_and_keys_are_uncorrelated() -> None:
    rows = torch.arange(20_000)
    numbers = uniform(key("x"), rows, 8)
    bound = 4 * (8 * 20_000) ** -0.5
    assert abs(correlation(numbers[1:], numbers[:-1])) < bound
    assert abs(correlation(numbers[:, 1:], numbers[:, :-1])) < bound
    assert abs(correlation(numbers, uniform(key("x") + 1, rows, 8))) < bound
    assert abs(correlation(numbers, uniform(key("y"), rows, 8))) < bound


def test_pairs_of_draws_fill_the_square_evenly() -> None:
    pairs = uniform(key("x"), torch.arange(64_000), 2)
    cells = (pairs * 16).long()
    counts = torch.bincount(cells[:, 0] * 16 + cells[:, 1], minlength=256)
    chi_square = float(((counts - 250) ** 2 / 250).sum())
    assert 170 < chi_square < 350  # 255 degrees of freedom: 255 +- 4 standard deviations of 22.6


def global_states() -> tuple[Any, list[int], list[int]]:
    numpy_state: Any = np.random.get_state()
    return random.getstate(), numpy_state[1].tolist(), torch.get_rng_state().tolist()


def test_nothing_touches_the_global_generators() -> None:
    before = global_states()
    uniform(key("x"), torch.arange(3), 2)
    torch.rand(3, generator=generator("x"))
    StepContext().permutation("shuffle", 5)
    assert global_states() == before


def test_a_generator_is_fresh_at_every_call() -> None:
    first = torch.rand(4, generator=generator(1, "dropout"))
    assert torch.equal(first, torch.rand(4, generator=generator(1, "dropout")))
    assert not torch.equal(first, torch.rand(4, generator=generator(2, "dropout")))


def test_a_permutation_belongs_to_seed_step_purpose_and_shard() -> None:
    base = StepContext(seed=1, step=2, shard=3)
    order = base.permutation("shuffle", 100)
    assert torch.equal(order.sort().values, torch.arange(100))
    assert torch.equal(order, StepContext(seed=1, step=2, shard=3).permutation("shuffle", 100))
    others = [
        StepContext(seed=0, step=2, shard=3).permutation("shuffle", 100),
        StepContext(seed=1, step=1, shard=3).permutation("shuffle", 100),
        StepContext(seed=1, step=2, shard=0).permutation("shuffle", 100),
        base.permutation("groups", 100),
        base.global_permutation("shuffle", 100),
    ]
    for other in others:
        assert not torch.equal(order, other)


def test_a_global_permutation_is_the_same_on_every_shard() -> None:
    first, second = (
        StepContext(seed=1, step=2, shard=shard).global_permutation("shuffle", 50)
        for shard in (0, 5)
    )
    assert torch.equal(first, second)
    assert torch.equal(first.sort().values, torch.arange(50))


def excess(counts: Tensor) -> float:
    """Chi-squared of counts against equal ones, in standard deviations above its mean."""
    expected = counts.double().mean()
    freedom = len(counts) - 1
    chi = ((counts - expected) ** 2 / expected).sum()
    return float((chi - freedom) / math.sqrt(2 * freedom))


def orders(size: int, number: int) -> Tensor:
    """The whole orders (number, size) of as many epochs."""
    places = torch.arange(size)
    return torch.stack([shuffled(key(5, "order", n), places, size) for n in range(number)])


@pytest.mark.parametrize("size", [*range(1, 70), 999, 1000, 4096, 50_000, 50_001])
def test_every_row_has_one_place(size: int) -> None:
    for seed in range(3):
        order = shuffled(key(seed, size), torch.arange(size), size)
        assert torch.equal(order.sort().values, torch.arange(size))


def test_a_place_does_not_depend_on_what_else_is_asked() -> None:
    whole = shuffled(7, torch.arange(1000), 1000)
    places = torch.tensor([[999, 3], [500, 3]])
    assert torch.equal(shuffled(7, places, 1000), whole[places])
    assert not torch.equal(shuffled(8, torch.arange(1000), 1000), whole)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_every_order_of_few_rows_comes_up_as_often(size: int) -> None:
    numbers = {order: n for n, order in enumerate(itertools.permutations(range(size)))}
    found = [numbers[tuple(order)] for order in orders(size, 12 * len(numbers) + 500).tolist()]
    assert abs(excess(torch.tensor(found).bincount(minlength=len(numbers)))) < 4


@pytest.mark.parametrize("size", [9, 30, 100, 999, 1000, 2500])
def test_rows_neighbours_and_epochs_are_unrelated(size: int) -> None:
    drawn = orders(size, max(300, 20_000 // size))
    tenths = torch.arange(size) * 10 // size
    both = (tenths[drawn] + 10 * tenths).flatten() if size >= 30 else None  # place and row
    if both is not None:
        counts = both.bincount(minlength=100).double()
        expected = tenths.bincount().double()
        expected = len(drawn) * (expected[:, None] * expected / size).flatten()
        assert float(((counts - expected) ** 2 / expected).sum()) < 81 + 5 * math.sqrt(2 * 81)
    steps = (drawn[:, 1:] - drawn[:, :-1]) % size  # 1 to size - 1, all as likely
    assert abs(excess((steps - 1).flatten().bincount(minlength=size - 1))) < 5
    for lag in (1, 2, 7):
        shift = correlation(drawn[:, lag:].double(), drawn[:, :-lag].double())
        # without replacement the correlation is -1 / (size - 1), not 0
        assert abs(shift + 1 / (size - 1)) < 5 / math.sqrt(drawn[:, lag:].numel())
    epochs = correlation(drawn[1:].double(), drawn[:-1].double())
    assert abs(epochs) < 5 / math.sqrt(drawn[1:].numel())


def test_a_hundred_million_rows_need_no_table() -> None:
    size = 10**8
    shuffled(0, torch.arange(2), 100)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = shuffled(key(0, "order", 0), torch.arange(size - 256, size), size)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert rows.unique().numel() == 256 and int(rows.min()) >= 0 and int(rows.max()) < size
    assert grown_kib < 100_000  # a table has 800 MB
    assert int(rows.max()) - int(rows.min()) > size // 2  # and are not a stretch of it

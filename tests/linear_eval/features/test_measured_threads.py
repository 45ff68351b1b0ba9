"""Tests of linear_eval.features.measured_threads, with times that are made up."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from linear_eval.backbones.architectures import build_backbone
from linear_eval.features import measured_threads
from linear_eval.features.measured_threads import (
    fastest,
    long_enough,
    on_fastest_threads,
    seconds_by_threads,
    seconds_by_turns,
    thread_counts,
)
from linear_eval.features.table import frozen


class FakeClock:
    """Stands still but where a call takes time."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def taking(self, seconds: Callable[[], float]) -> Callable[[], None]:
        def call() -> None:
            self.now += seconds()

        return call


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else runs on this machine."""
    monkeypatch.setattr(measured_threads, "lacks_cores", lambda *_: False)


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 7, 8, 64, 200])
def test_all_cores_are_tried_one_fewer_and_few(cores: int) -> None:
    counts = thread_counts(cores)
    assert counts == sorted(set(counts), reverse=True)
    assert {cores, max(1, cores - 1), 1} <= set(counts)
    assert all(b >= a // 2 for a, b in pairwise(counts))
    assert len(counts) <= 20


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({4: 1.0, 3: 1.3, 2: 1.9, 1: 3.5}, 4),
        ({4: 9.0, 3: 1.3, 2: 1.9, 1: 3.5}, 3),  # one core is busy
        ({4: 9.0, 3: 5.0, 2: 3.0, 1: 1.0}, 1),
    ],
)
def test_the_fastest_number_of_threads_is_found(seconds: dict[int, float], best: int) -> None:
    clock = FakeClock()
    before = torch.get_num_threads()
    call = clock.taking(lambda: seconds[torch.get_num_threads()] / 100)
    assert fastest(seconds_by_threads(call, 4, clock)) == best
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("lacking", "best"), [(False, 2), (True, 1)])
def test_seldom_but_long_waits_count_beside_other_processes(
    lacking: bool, best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured_threads, "lacks_cores", lambda *_: lacking)
    clock, calls = FakeClock(), {2: 0, 1: 0}

    def seconds() -> float:
        threads = torch.get_num_threads()
        calls[threads] += 1
        # beside a busy process two threads are stopped in every tenth step, for long
        return {1: 0.03, 2: 0.17 if calls[2] % 10 == 9 else 0.025}[threads]

    call = clock.taking(seconds)
    found = seconds_by_threads(call, 2, clock)
    assert fastest(found) == best
    assert calls[1] < 40  # no more than a second or so


def test_beside_others_what_takes_long_is_not_called_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measured_threads, "lacks_cores", lambda *_: True)
    clock, calls = FakeClock(), []
    call = clock.taking(lambda: calls.append(torch.get_num_threads()) or 3.0)  # type: ignore[func-returns-value]
    assert seconds_by_threads(call, 2, clock) == {2: 3.0, 1: 3.0}
    assert len(calls) == 2 * (1 + measured_threads.FEWER_ROUNDS + 1)


def test_one_disturbed_round_decides_nothing_and_a_lucky_one_neither() -> None:
    clock = FakeClock()
    times = {2: iter([0.01, 0.01, 0.09, 0.01, 0.01, 0.01]), 1: iter([0.018] * 9)}
    call = clock.taking(lambda: next(times[torch.get_num_threads()]))
    assert fastest(seconds_by_threads(call, 2, clock)) == 2
    times = {2: iter([0.06, 0.06, 0.01, 0.07, 0.06, 0.06]), 1: iter([0.018] * 9)}
    assert fastest(seconds_by_threads(call, 2, clock)) == 1


def test_each_has_its_turn_in_every_round_and_the_hopeless_are_left_out() -> None:
    clock, order = FakeClock(), []

    def taking(name: str, seconds: float) -> Callable[[], None]:
        return clock.taking(lambda: order.append(name) or seconds)  # type: ignore[func-returns-value]

    found = seconds_by_turns(
        {"a": taking("a", 0.01), "b": taking("b", 0.03), "c": taking("c", 0.05)}, clock
    )
    assert "".join(order) == "abcabaaa"
    assert found["a"] == pytest.approx([0.01] * 5)


def test_what_takes_long_is_measured_less_often() -> None:
    clock = FakeClock()
    found = seconds_by_turns({"a": clock.taking(lambda: 1.0)}, clock)
    assert len(found["a"]) == measured_threads.FEWER_ROUNDS


@pytest.mark.parametrize(("each", "most", "images"), [(0.001, 128, 16), (0.001, 8, 8), (1, 9, 2)])
def test_few_images_are_tried_but_enough(each: float, most: int, images: int) -> None:
    clock = FakeClock()

    def call(count: int) -> None:
        clock.now += each * count

    assert long_enough(call, most, clock) == images


def test_features_are_equal_to_the_bit_whatever_is_fastest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 1x1 convolutions: torch takes other kernels for one thread and fewer than 16 images
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    network = build_backbone("resnet50_cifar")
    images = torch.randint(0, 256, (19, 3, 16, 16), dtype=torch.uint8)
    cpu, before = torch.device("cpu"), torch.get_num_threads()
    seen: list[int] = []
    monkeypatch.setattr(measured_threads, "long_enough", lambda call, most: most)
    monkeypatch.setattr(
        measured_threads, "seconds_by_threads", lambda call, cores: {cores: 2.0, 1: 1.0}
    )
    monkeypatch.setattr(measured_threads, "lacks_cores", lambda *_: True)
    monkeypatch.setattr(measured_threads, "NOTICED", 0.0)
    with frozen(network, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), device=cpu) as embed:

        def watched(batch: torch.Tensor) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            return embed(batch)

        try:
            torch.set_num_threads(2)
            expected = [embed(images[:16]), embed(images[:16]), embed(images[16:])]
            faster = on_fastest_threads(watched, cpu)
            found = [faster(images[:16]), faster(images[:16]), faster(images[16:])]
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(before)
    assert seen == [2, 1, 2]  # measured after the first; small batches keep torch's own number
    assert all(map(torch.equal, found, expected))


def test_threads_are_measured_at_first_beside_other_processes_later_in_any_case(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    clock, lacking = FakeClock(), False
    measured: list[float] = []
    monkeypatch.setattr("linear_eval.features.measured_threads.time.perf_counter", clock)
    monkeypatch.setattr(measured_threads, "lacks_cores", lambda *_: lacking)
    monkeypatch.setattr(measured_threads, "long_enough", lambda call, most: most)

    def measure(*_: object) -> dict[int, float]:
        measured.append(clock())
        return {2: 1.0}

    monkeypatch.setattr(measured_threads, "seconds_by_threads", measure)

    def embed(images: torch.Tensor) -> torch.Tensor:
        clock.now += 1
        return images

    def seconds_when_measured(seconds: int) -> list[float]:
        faster = on_fastest_threads(embed, torch.device("cpu"))
        clock.now = 0
        measured.clear()
        for _ in range(seconds):
            faster(torch.zeros(16))
        return measured

    assert seconds_when_measured(10) == []  # nothing is lost on an idle machine
    assert seconds_when_measured(150) == [11, 72, 133]
    lacking = True
    assert seconds_when_measured(150) == [1, 62, 123]


def test_what_a_person_asks_for_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def embed(images: torch.Tensor) -> torch.Tensor:
        return images

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert on_fastest_threads(embed, torch.device("cpu")) is embed
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert on_fastest_threads(embed, torch.device("cuda")) is embed
    assert on_fastest_threads(embed, torch.device("cpu")) is not embed

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_bf.run import latest_value
from ssl_bf.run.latest_value import LatestValue


class OnAGpu:
    """A scalar that only an explicit copy brings to the host."""

    device = torch.device("cuda", 0)

    def __init__(self, number: float) -> None:
        self.number = number

    def detach(self) -> "OnAGpu":
        return self


class Arrival:
    def __init__(self) -> None:
        self.is_here = False

    def query(self) -> bool:
        return self.is_here


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[Arrival]:
    """Arrivals of the copies begun so far."""
    begun: list[Arrival] = []

    def begin(value: OnAGpu) -> tuple[Tensor, Arrival]:
        begun.append(Arrival())
        return torch.tensor(value.number), begun[-1]

    monkeypatch.setattr(latest_value, "_begin_copy", begin)
    return begun


def test_a_number_on_the_cpu_is_here_at_once() -> None:
    latest = LatestValue()
    assert latest.follow(torch.tensor(2.5, requires_grad=True)) == 2.5
    assert latest.follow(torch.tensor(1.5)) == 1.5


def test_a_gpu_is_never_waited_for_and_one_number_is_on_its_way_at_a_time(
    copies: list[Arrival],
) -> None:
    follow: Callable[[Any], float | None] = LatestValue().follow
    assert [follow(OnAGpu(step)) for step in (1.0, 2.0, 3.0)] == [None] * 3
    assert len(copies) == 1
    copies[0].is_here = True
    assert follow(OnAGpu(4.0)) == 1.0
    assert len(copies) == 2
    assert follow(OnAGpu(5.0)) is None
    copies[1].is_here = True
    assert follow(OnAGpu(6.0)) == 4.0

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from linear_eval.system.serial_threads import serial_threads, serial_threads_alone


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    every = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(every)


def test_each_thread_computes_on_one_core_and_the_caller_on_as_many_as_before() -> None:
    together = threading.Barrier(3)

    def cores(_: int) -> int:
        together.wait()  # one task for each thread
        return torch.get_num_threads()

    with serial_threads(3) as pool:
        assert torch.get_num_threads() == 2
        assert list(pool.map(cores, range(3))) == [1, 1, 1]
        torch.rand(1_000_000).add_(1)
        assert list(pool.map(cores, range(3))) == [1, 1, 1]
    assert torch.get_num_threads() == 2


def test_threads_begun_later_are_as_they_would_have_been() -> None:
    with serial_threads(2), ThreadPoolExecutor(1) as other:
        assert other.submit(torch.get_num_threads).result() == 2


def test_what_fails_in_a_thread_fails_for_who_asks() -> None:
    with serial_threads(1, "failing") as pool:
        assert pool.submit(lambda: threading.current_thread().name).result().startswith("failing")
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 / 0).result()


def test_threads_alone_leave_the_caller_as_many_cores_as_before() -> None:
    with pytest.raises(ZeroDivisionError), serial_threads_alone(2) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == 2
        pool.submit(lambda: 1 / 0).result()
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as other:
        assert other.submit(torch.get_num_threads).result() == 2

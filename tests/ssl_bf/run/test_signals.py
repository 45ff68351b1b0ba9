"""Tests of ssl_bf.run.signals, with real signals sent to real processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import distributed

from linear_eval.system.interruption import ASKING
from ssl_bf.run.signals import StopSignals


@pytest.mark.parametrize("number", ASKING)
def test_the_first_signal_is_remembered_and_interrupts_nothing(number: signal.Signals) -> None:
    with StopSignals() as signals:
        assert signals.received is None
        assert signals.agreed(save_is_due=False) == (False, False)
        os.kill(os.getpid(), number)
        assert signals.received == number
        assert signals.agreed(save_is_due=True) == (True, True)


def test_the_handlers_of_before_come_back_even_after_an_error() -> None:
    before = {number: signal.getsignal(number) for number in ASKING}

    def fail_inside() -> None:
        with StopSignals() as signals:
            for number in ASKING:
                assert signal.getsignal(number) == signals._remember
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail_inside()
    assert {number: signal.getsignal(number) for number in ASKING} == before


def exit_code_of_child(act: Callable[[], None]) -> int:
    """Run `act` in a fork; 0 where it returns, 1 where it raises."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(("first", "second"), [("SIGTERM", "SIGTERM"), ("SIGUSR1", "SIGINT")])
def test_the_second_signal_ends_the_process_with_its_number(first: str, second: str) -> None:
    def send_one() -> None:
        with StopSignals():
            os.kill(os.getpid(), signal.Signals[first])

    def send_two() -> None:
        with StopSignals():
            os.kill(os.getpid(), signal.Signals[first])
            os.kill(os.getpid(), signal.Signals[second])

    assert exit_code_of_child(send_one) == 0
    assert exit_code_of_child(send_two) == 128 + signal.Signals[second]


def count_steps(rank: int, store: str, results: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    steps, saves = 0, []
    with StopSignals() as signals:
        while steps < 20:
            # the clock of the main process counts, and no other
            asked = signals.agreed(save_is_due=steps == (3 if rank == 0 else 2))
            saves += [steps] if asked.save else []
            if asked.stop:
                break
            steps += 1
            if steps == 5 and rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
    Path(results, str(rank)).write_text(f"{steps} {saves} {signals.received}")
    distributed.destroy_process_group()


@pytest.mark.dist
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_signal_to_one_process_stops_all_at_the_same_step(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    arguments = [(rank, str(tmp_path / "store"), str(tmp_path)) for rank in range(2)]
    processes = [fork.Process(target=count_steps, args=given) for given in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "0").read_text() == "5 [3] None"
    assert (tmp_path / "1").read_text() == f"5 [3] {int(signal.SIGTERM)}"

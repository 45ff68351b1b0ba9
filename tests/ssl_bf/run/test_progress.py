"""Tests of ssl_bf.run.progress on a pretended terminal and on a pipe."""

from __future__ import annotations

import sys

import pytest
import torch

from ssl_bf.run import progress
from ssl_bf.run.progress import Progress
from ssl_bf.schedules import Plan
from tests.terminal import terminal

PLAN = Plan(steps_per_epoch=8, epochs=5, warmup_epochs=0, peak_learning_rate=0.1)
NUMBERS = {"loss": 1.23456, "learning_rate": 0.05, "feature_std": 0.9}


def run(*, first_step: int) -> None:
    shown = Progress(PLAN, first_step=first_step)
    shown.note("a line")
    for step in range(first_step + 1, 21):
        shown.advance(step, torch.tensor(100.0 / step))
    shown.show(20, NUMBERS, images_per_second=1234.5, seconds_per_step=3.0)
    shown.close()
    shown.note("the end")


def test_a_pipe_gets_plain_lines_only_when_there_is_something_to_say(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(first_step=0)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "a line",
        "step 20/40  epoch 2.50  loss 1.235  learning_rate 0.05  1,234 images/s  ETA 01:00",
        "the end",
    ]


@pytest.mark.parametrize("first_step", [0, 15])
def test_a_terminal_gets_a_bar_with_step_loss_rate_speed_and_time_left(
    first_step: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run(first_step=first_step)
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.replace("\r", "\n").splitlines()[-2]
    assert f" {first_step}/40 " in captured.err
    assert "20/40" in last
    assert "loss 1.235  learning_rate 0.05  1,234 images/s" in last
    assert "<" in last, "tqdm's ELAPSED<LEFT"
    assert captured.err.endswith("the end\n")


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (120, "loss 1.235  learning_rate 0.05  1,234 images/s"),
        (95, "loss 1.235  learning_rate 0.05"),
        (70, "loss 1.235"),
        (50, ""),
    ],
)
def test_what_a_narrow_terminal_has_no_room_for_is_left_out_whole(columns: int, shown: str) -> None:
    with terminal(columns) as screen:
        run(first_step=0)
    bar = next(line for line in screen.lines if "20/40" in line)
    assert len(bar) <= columns
    assert bar.endswith(f"step/s{', ' if shown else ''}{shown}]"), bar


def test_other_processes_stay_silent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "is_main", lambda: False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run(first_step=0)
    assert capsys.readouterr().err == ""


def test_the_bar_shows_the_loss_of_now_and_not_that_of_the_last_line() -> None:
    with terminal() as seen:
        shown = Progress(PLAN, first_step=0)
        shown.show(1, NUMBERS, images_per_second=1234.5, seconds_per_step=3.0)
        for step in range(2, 41):
            shown.advance(step, torch.tensor(100.0 / step, requires_grad=True))
            if step == 20:
                shown.note("a line of its own")
        shown.close()
    assert "a line of its own" in seen.lines
    bars = [line for line in seen.lines if "/40 " in line]
    assert len(bars) == 1, "no bar is left behind"
    rate = f"learning_rate {PLAN.learning_rate(39):.4g}"
    assert "40/40 [" in bars[0]
    assert f"loss 2.5  {rate}  1,234 images/s" in bars[0]


@pytest.mark.parametrize("world", [1, 2])
def test_the_loss_of_one_process_is_not_called_that_of_all(
    world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "world_size", lambda: world)
    with terminal() as seen:
        shown = Progress(PLAN, first_step=0)
        shown.advance(40, torch.tensor(1.0))
        shown.close()
    assert (", loss here 1  " if world == 2 else ", loss 1  ") in seen.lines[0]


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_line_without_a_loss_shows_every_number_and_no_speed(
    is_terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    numbers = {"monitor/knn_top1": 71.25, "undefined": None}
    shown = Progress(PLAN, first_step=0)
    shown.show(8, numbers, images_per_second=10, seconds_per_step=0.1)
    shown.close()
    assert "step 8/40  epoch 1.00  monitor/knn_top1 71.25\n" in capsys.readouterr().err

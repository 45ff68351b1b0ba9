"""Tests of ssl_bf.progress on a pretended terminal and on a pipe."""

from __future__ import annotations

import sys

import pytest

from ssl_bf import progress
from ssl_bf.progress import Progress
from ssl_bf.schedules import Plan

PLAN = Plan(steps_per_epoch=8, epochs=5, warmup_epochs=0, peak_learning_rate=0.1)
NUMBERS = {"loss": 1.23456, "learning_rate": 0.05, "feature_std": 0.9}


def run(*, first_step: int) -> None:
    shown = Progress(PLAN, first_step=first_step)
    shown.note("a line")
    for step in range(first_step + 1, 21):
        shown.advance(step)
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


def test_other_processes_stay_silent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "is_main", lambda: False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run(first_step=0)
    assert capsys.readouterr().err == ""


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

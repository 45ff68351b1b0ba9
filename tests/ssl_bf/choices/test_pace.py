"""Tests of ssl_bf.choices.pace, with made-up seconds."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from linear_eval.strict_config.reader import parse_config
from ssl_bf.choices import pace
from ssl_bf.choices.pace import AT_START, Pace, adapt_threads
from ssl_bf.config import PretrainConfig

SHORTEST: dict[str, Any] = {
    "data": {"name": "textures"},
    "views": {"recipe": "textures", "size": 32},
    "backbone": {"name": "small_conv"},
    "method": {"name": "simsiam"},
    "optimizer": {"name": "sgd"},
    "epochs": 2,
    "batch_size": 16,
    "run": {"directory": "never written"},
}


def test_steps_that_stay_slow_are_told_once() -> None:
    said: list[str] = []
    watching = Pace(said.append)
    for _ in range(AT_START + 300):
        watching.after(0.5)
    assert said == []
    for _ in range(300):
        watching.after(1.5)
    assert len(said) == 1
    assert said[0].startswith("warning: for over a minute steps have taken 3.0 times as long")


def test_a_minute_with_a_slow_third_is_no_news() -> None:
    said: list[str] = []
    watching = Pace(said.append)
    for step in range(AT_START + 900):
        watching.after(2.0 if step % 3 == 0 else 0.5)
    assert said == []


def test_a_run_that_began_beside_others_learns_what_is_normal() -> None:
    said: list[str] = []
    watching = Pace(said.append)
    for seconds in [2.0] * AT_START + [1.0] * 70 + [2.0] * 70:
        watching.after(seconds)
    assert len(said) == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_the_line_says_what_would_help(threads: int) -> None:
    line = pace._warning(3.0, threads)
    assert ("speed.threads=1) or with speed.threads=adaptive" in line) == (threads == 2)


def test_adaptive_is_asked_every_minute() -> None:
    said: list[str] = []
    answers = iter(["", "threads: 1", ""])
    watching = Pace(said.append, lambda: next(answers))
    for _ in range(AT_START + 3 * 60):
        watching.after(1.0)
    assert said == ["threads: 1"]
    assert next(answers, None) is None


@pytest.mark.parametrize(
    ("seconds", "threads"),
    [({4: 1.0, 3: 0.95, 1: 3.0}, 4), ({4: 2.0, 3: 1.0, 1: 3.0}, 3), ({3: 1.0, 1: 3.0}, 3)],
)
def test_only_what_is_clearly_faster_is_changed_to(
    seconds: dict[int, float], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "seconds_of_threads", lambda *_: seconds)
    before, given = torch.get_num_threads(), cast(Any, None)
    try:
        torch.set_num_threads(4)
        line = adapt_threads(given, "float32")
        assert torch.get_num_threads() == threads
        assert bool(line) == (threads != 4)
    finally:
        torch.set_num_threads(before)


def test_the_time_needed_is_steps_times_views_of_the_measured_backbone() -> None:
    made = parse_config(PretrainConfig, SHORTEST).value
    assert pace.time_needed(made, 100, None) == []
    # 100 steps of 16 images, two views each: 3,200 views
    [line] = pace.time_needed(made, 100, 600 / 3200)
    assert line.startswith("time: at least 10 min on this CPU: 100 steps of 16 images")


@pytest.mark.parametrize(("hours", "said"), [(1.5, "1.5 hours"), (24 * 9, "9 days")])
def test_over_an_hour_the_smaller_config_and_known_weights_are_named(
    hours: float, said: str
) -> None:
    made = parse_config(PretrainConfig, SHORTEST).value
    first, second = pace.time_needed(made, 100, hours * 3600 / 3200)
    assert f"at least {said}" in first
    assert "small_image_folder" in second
    assert "backbone.init=FILE" in second

"""Tests of ssl_bf.saving.saver: when it saves, what stays, and that the run may go on meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from linear_eval.system.errors import InputError
from ssl_bf.config import RunConfig
from ssl_bf.run import checkpoint
from ssl_bf.run.checkpoint import load_newest, published_steps
from ssl_bf.saving.saver import Saver
from ssl_bf.schedules import Plan

PLAN = Plan(steps_per_epoch=4, epochs=5, warmup_epochs=0, peak_learning_rate=1.0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def saver(directory: Path, clock: Clock | None = None, **keys: Any) -> Saver:
    config = RunConfig(directory="unused", **keys)
    return Saver(directory, config, PLAN, clock=clock or Clock())


def saved_at(saving: Saver, clock: Clock, seconds_per_step: float) -> list[int]:
    steps = []
    with saving:
        for done in range(1, PLAN.total_steps + 1):
            clock.now += seconds_per_step
            if saving.is_due(done):
                saving.save(done, {"x": torch.tensor(done)}, {})
                steps.append(done)
    return steps


@pytest.mark.parametrize(
    ("keys", "saved", "kept"),
    [
        ({}, [5, 10, 15, 20], [20, 15]),  # 10 minutes, at two a step
        ({"save_every": "7min"}, [4, 8, 12, 16, 20], [20, 16]),
        ({"save_every": "6steps", "keep_last": 3}, [6, 12, 18, 20], [20, 18, 12]),
        ({"save_every": "2epochs", "keep_last": 1}, [8, 16, 20], [20]),
        (
            {"save_every": "3steps", "keep_last": 1, "keep_every": "2epochs"},
            [3, 6, 8, 9, 12, 15, 16, 18, 20],
            [20, 16, 8],
        ),
        ({"save_every": "2h"}, [20], [20]),
    ],
)
def test_it_saves_by_time_or_steps_and_keeps_what_it_should(
    keys: dict[str, Any], saved: list[int], kept: list[int], tmp_path: Path
) -> None:
    clock = Clock()
    assert saved_at(saver(tmp_path, clock, **keys), clock, 120.0) == saved
    assert published_steps(tmp_path) == kept


def test_what_is_written_is_the_step_at_which_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()
    write = checkpoint.save

    def slowly(*given: Any, **keys: Any) -> Path:
        begun.set()
        assert go.wait(60)
        return write(*given, **keys)

    monkeypatch.setattr(checkpoint, "save", slowly)
    weight = torch.arange(6.0).reshape(2, 3).T  # not contiguous
    expected = weight.clone()
    with saver(tmp_path) as saving:
        saving.save(1, {"weight": weight}, {"step": 1})
        assert begun.wait(60)
        assert not published_steps(tmp_path)  # and yet the run goes on:
        weight += 100
        go.set()
        saving.wait()
        assert published_steps(tmp_path) == [1]
    assert torch.equal(load_newest(tmp_path).tensors["weight"], expected)


def test_a_failed_write_is_told_at_the_next_step_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> Path:
        raise InputError("the checkpoint cannot be saved")

    monkeypatch.setattr(checkpoint, "save", full)
    tensors: dict[str, Tensor] = {}
    with pytest.raises(InputError, match="cannot be saved"), saver(tmp_path) as saving:
        saving.save(1, tensors, {})
    with pytest.raises(InputError, match="cannot be saved"), saver(tmp_path) as saving:
        saving.save(1, tensors, {})
        while True:
            saving.is_due(2)
    assert capsys.readouterr().err == ""  # the caller says it, once
    with pytest.raises(RuntimeError, match="other"), saver(tmp_path) as saving:
        saving.save(1, tensors, {})
        raise RuntimeError("other")
    assert capsys.readouterr().err == "error: the checkpoint cannot be saved\n"

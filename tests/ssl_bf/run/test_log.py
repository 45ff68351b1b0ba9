"""Tests of ssl_bf.run.log: what lies in the run directory after each kind of end."""

from __future__ import annotations

import builtins
import errno
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from linear_eval.system.errors import InputError, StoppedBySignal
from ssl_bf.run import log as run_log
from ssl_bf.run import progress
from ssl_bf.run.log import NonFiniteLoss, RunLog
from ssl_bf.schedules import Plan
from ssl_bf.trackers.choice import TrackerChoice

PLAN = Plan(steps_per_epoch=4, epochs=5, warmup_epochs=0, peak_learning_rate=0.1)


def open_log(run: Path, **changes: Any) -> RunLog:
    settings: dict[str, Any] = {"plan": PLAN, "batch_size": 32}
    log = RunLog(run, **(settings | changes))
    if "resume_step" not in changes:
        log.open()
    return log


def work(log: RunLog, steps: range) -> None:
    for step in steps:
        log.watch(step, torch.tensor(10.0 / step))
        if step % 2 == 0:
            log.write(step, {"loss": torch.tensor(10.0 / step), "learning_rate": 0.1})


def lines(run: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_bytes().splitlines()]
    return [{k: v for k, v in record.items() if k != "timing"} for record in records]


def status(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "status.json").read_bytes())
    assert isinstance(found.pop("updated_unix_seconds"), int)
    return found


def test_a_line_holds_step_epoch_values_and_timing_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([100.0, 102.0, 106.0, 116.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    monkeypatch.setattr("ssl_bf.run.log.memory_in_use", lambda: {"memory_mib": 7.5})
    log = open_log(tmp_path)
    log.write(5, {"loss": torch.tensor(0.1, dtype=torch.float64), "learning_rate": 0.3})
    log.write(6, {"loss": 2.0, "queue/x": float("nan")})
    log.write(6, {"monitor/knn_top1": 70.0})
    first, second, third = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(first) == {
        "step": 5,
        "epoch": 1.25,
        "loss": 0.1,
        "learning_rate": 0.3,
        "timing": {"seconds": 2.0, "memory_mib": 7.5, "images_per_second": 5 * 32 / 2},
    }
    assert json.loads(second) == {
        "step": 6,
        "epoch": 1.5,
        "loss": 2.0,
        "queue/x": None,
        "timing": {"seconds": 6.0, "memory_mib": 7.5, "images_per_second": 8.0},
    }
    assert json.loads(third)["timing"] == {"seconds": 16.0, "memory_mib": 7.5}


@pytest.mark.parametrize("torn", [b"", b'{"step": 8, "lo', b"\0\0\0\0"])
def test_a_resumed_log_equals_one_never_interrupted(tmp_path: Path, torn: bytes) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    whole.mkdir()
    resumed.mkdir()
    with open_log(whole) as log:
        work(log, range(1, 21))
    work(open_log(resumed), range(1, 14))
    with (resumed / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    with open_log(resumed, resume_step=8) as log:
        assert [line["step"] for line in lines(resumed)] == [2, 4, 6, 8]
        work(log, range(9, 21))
    assert lines(resumed) == lines(whole)
    assert len(lines(whole)) == 10
    assert status(resumed) == status(whole)


def test_a_fresh_log_forgets_the_one_before(tmp_path: Path) -> None:
    work(open_log(tmp_path), range(1, 9))
    open_log(tmp_path)
    assert lines(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (None, "finished", None),
        (StoppedBySignal("signal 15"), "stopped", "signal 15"),
        (RuntimeError("two\nlines"), "failed", "RuntimeError: two lines"),
        (KeyboardInterrupt(), "failed", "KeyboardInterrupt:"),
    ],
)
def test_the_status_tells_how_the_run_ended(
    tmp_path: Path, error: BaseException | None, state: str, reason: str | None
) -> None:
    def go() -> None:
        with open_log(tmp_path) as log:
            assert status(tmp_path) == {"state": "running", "step": 0, "total_steps": 20}
            work(log, range(1, 3))
            assert status(tmp_path) == {"state": "running", "step": 2, "total_steps": 20}
            work(log, range(3, 4))  # writes no line
            if error is not None:
                raise error

    if error is None:
        go()
    else:
        with pytest.raises(type(error)):
            go()
    expected = {"state": state, "step": 3, "total_steps": 20}
    assert status(tmp_path) == expected | ({"reason": reason} if reason else {})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_names_its_own_step(tmp_path: Path, bad: float) -> None:
    log = open_log(tmp_path)
    work(log, range(1, 7))
    log.watch(7, torch.tensor(bad))
    log.watch(8, torch.tensor(1.0))
    log.watch(9, torch.tensor(float("nan")))
    with pytest.raises(NonFiniteLoss, match=f"^loss: is {bad} at step 7, ") as caught:
        log.check_losses()
    assert "\n" not in str(caught.value)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 6]


def test_a_loss_that_is_not_finite_tells_whether_there_are_checkpoints(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for folder, said in [
        ("checkpoints/.tmp-step-000000004", "no checkpoint was saved"),
        ("checkpoints/step-000000004", "checkpoints saved before are untouched"),
    ]:
        (tmp_path / folder).mkdir(parents=True)
        log.watch(7, torch.tensor(float("nan")))
        with pytest.raises(NonFiniteLoss, match=rf" \({said}\)$"):
            log.check_losses()


def test_a_line_with_a_bad_loss_is_never_written(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.watch(1, torch.tensor(float("nan")))
    with pytest.raises(NonFiniteLoss, match="step 1"):
        log.write(2, {"loss": 1.0})
    assert lines(tmp_path) == []


def test_finite_losses_are_looked_at_once(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    loss = torch.tensor(1.0)
    log.watch(1, loss)
    log.check_losses()
    loss.fill_(float("nan"))
    log.check_losses()


def test_other_processes_write_nothing_but_still_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (run_log, progress):
        monkeypatch.setattr(module, "is_main", lambda: False)
    with open_log(tmp_path, trackers=TrackerChoice(tensorboard=True)) as log:
        log.note("unheard")
        work(log, range(1, 5))
        log.watch(5, torch.tensor(float("nan")))
        with pytest.raises(NonFiniteLoss):
            log.write(6, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path)

    opened = Path.open

    def refuse(path: Path, *args: Any, **named: Any) -> Any:
        if path.name == "metrics.jsonl":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, *args, **named)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"metrics.jsonl: cannot be written .No space left"):
        log.write(1, {"loss": 1.0})


def test_the_environment_is_recorded_and_a_change_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_log(tmp_path)
    path = tmp_path / "environment.json"
    recorded = json.loads(path.read_bytes())
    open_log(tmp_path, resume_step=0)
    assert "warning" not in capsys.readouterr().err
    path.write_text(json.dumps(recorded | {"versions": recorded["versions"] | {"torch": "1.0"}}))
    open_log(tmp_path, resume_step=0)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: results may differ in the last bits; versions.torch: 1.0 -> ")
    assert json.loads(path.read_bytes()) == recorded


def without_tensorboard(real_import: Callable[..., Any]) -> Callable[..., Any]:
    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if "tensorboard" in name:
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    return refuse


def test_without_tensorboard_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(builtins, "__import__", without_tensorboard(builtins.__import__))
    log = open_log(tmp_path, trackers=TrackerChoice(tensorboard=True))
    assert capsys.readouterr().err.splitlines() == [
        "no TensorBoard events: the package tensorboard is not installed"
    ]
    log.write(1, {"loss": 1.0})
    assert not (tmp_path / "tensorboard").exists()


def test_tensorboard_gets_the_scalars_of_each_line(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with open_log(tmp_path, trackers=TrackerChoice(tensorboard=True)) as log:
        work(log, range(1, 7))
    with open_log(tmp_path, trackers=TrackerChoice(tensorboard=True), resume_step=4) as log:
        work(log, range(5, 9))
    accumulator = events.EventAccumulator(str(tmp_path / "tensorboard"))
    accumulator.Reload()
    assert sorted(accumulator.Tags()["scalars"]) == ["learning_rate", "loss"]
    losses = [(event.step, event.value) for event in accumulator.Scalars("loss")]
    assert losses == [(step, pytest.approx(10.0 / step)) for step in (2, 4, 6, 8)]

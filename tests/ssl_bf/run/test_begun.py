"""Tests of ssl_bf.run.begun, run.resume=auto: it starts, goes on, is done, or refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import traceback
from pathlib import Path

import pytest
import torch

from linear_eval.system.errors import InputError, StoppedBySignal
from ssl_bf.run import checkpoint
from ssl_bf.run.checkpoint import load_newest, published_steps
from ssl_bf.run.log import RunLog
from tests.tiny_run import STEPS, Start, no_training, snapshot, stop_at_once

AUTO = "run.resume=auto"


def state(directory: str = "run") -> str:
    return str(json.loads(Path(directory, "status.json").read_bytes())["state"])


def assert_same(ours: str, theirs: str) -> None:
    one, other = load_newest(Path(ours)), load_newest(Path(theirs))
    assert one.step == other.step == STEPS
    assert one.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


def test_it_starts_where_nothing_is_goes_on_and_is_done(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start("run.directory=whole")
    with monkeypatch.context() as patch, pytest.raises(StoppedBySignal):
        stop_at_once(patch)
        start(AUTO)
    assert (published_steps(Path("run")), state()) == ([1], "stopped")
    start(AUTO, "run.log_every=1")  # of what does not decide, the new line counts
    assert_same("run", "whole")
    assert state() == "finished"
    before = snapshot(Path("run"))
    no_training(monkeypatch)
    capsys.readouterr()
    start(AUTO)
    assert "run: the run is finished" in capsys.readouterr().out
    assert snapshot(Path("run")) == before


def test_a_finished_run_without_checkpoints_is_done(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start("epochs=1")
    shutil.rmtree("run/checkpoints")
    no_training(monkeypatch)
    start("epochs=1", AUTO)
    assert "run: the run is finished" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("place", ["after config.yaml", "before the first checkpoint"])
def test_a_run_killed_before_its_first_checkpoint_starts_again(
    start: Start, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("run.directory=whole")

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            if place == "after config.yaml":
                monkeypatch.setattr(RunLog, "open", die)
            else:
                monkeypatch.setattr(checkpoint, "save", die)
            start(AUTO)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert Path("run/config.yaml").exists()
    assert published_steps(Path("run")) == []
    start(AUTO)
    assert_same("run", "whole")
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, STEPS]


OTHERS = {
    "epochs=3": "epochs=2 there, 3 asked for",
    "method.predictor_hidden_dim=8": "method.predictor_hidden_dim=512 there, 8 asked for",
    "relation.name=none": "relation.name=batchformer there, none asked for",
    "data.train_images=48": "data.train_images=40 there, 48 asked for",
}


@pytest.mark.parametrize("saved", [True, False])
def test_another_run_is_refused_in_one_line_that_names_the_key(start: Start, saved: bool) -> None:
    start()
    if not saved:
        shutil.rmtree("run/checkpoints")
        Path("run/backbone.safetensors").unlink()
    before = snapshot(Path("run"))
    for asked, said in OTHERS.items():
        with pytest.raises(InputError) as refused:
            start(AUTO, asked)
        message = str(refused.value)
        assert message.startswith("run.directory: run holds another run (")
        assert said in message
        assert "\n" not in message
    assert snapshot(Path("run")) == before


def test_damaged_checkpoints_and_files_of_nobody_are_never_taken_for_nothing(start: Start) -> None:
    start("epochs=1")
    for path in Path("run/checkpoints").iterdir():
        (path / "state.json").write_text("{}")
    before = snapshot(Path("run"))
    with pytest.raises(InputError, match="no checkpoint is sound"):
        start("epochs=1", AUTO)
    assert snapshot(Path("run")) == before
    Path("run/config.yaml").unlink()
    with pytest.raises(InputError, match="already holds a run"):
        start("epochs=1", AUTO)


def test_auto_and_overwrite_contradict_each_other(start: Start) -> None:
    with pytest.raises(InputError, match=r"run\.resume: auto goes on with .* overwrite=true"):
        start(AUTO, "run.overwrite=true")

"""Tests of ssl_bf.commands.pretrain: what it checks, creates, deletes and refuses."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import ssl_bf.train
from linear_eval.datasets.decode import BadImageError
from linear_eval.strict_config.reader import load_config
from linear_eval.system.errors import InputError
from ssl_bf.build import Run, build_run
from ssl_bf.commands.resume import resume
from ssl_bf.config import PretrainConfig
from ssl_bf.keyed_random import StepContext
from ssl_bf.methods.batch import Batch
from ssl_bf.run.log import NonFiniteLoss
from ssl_bf.schedules import Elapsed
from tests.tiny_run import Start, save_images, snapshot


def test_the_config_written_down_is_the_whole_config_that_ran(start: Start) -> None:
    start("epochs=1", "seed=5", "optimizer.momentum=0.8")
    written = load_config(PretrainConfig, "run/config.yaml", [], packaged="pretrain").value
    asked = ["epochs=1", "seed=5", "optimizer.momentum=0.8"]
    assert written == load_config(PretrainConfig, "tiny.yaml", asked, packaged="pretrain").value
    assert "predictor_hidden_dim: 512" in Path("run/config.yaml").read_text()  # a default


def test_an_existing_run_is_refused_and_nothing_in_it_changes(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("epochs=1")
    before = snapshot(Path("run"))
    with pytest.raises(InputError) as refused:
        start("epochs=1", "seed=1")
    message = str(refused.value)
    assert message.startswith("run.directory: run already holds a run (")
    assert "`ssl-bf resume run`" in message
    assert "run.overwrite=true" in message
    assert snapshot(Path("run")) == before


@pytest.mark.parametrize(
    "remainder",
    [
        "config.yaml",
        "metrics.jsonl",
        "backbone.safetensors",
        "checkpoints/step-000000007/MANIFEST.json",
        "tensorboard/events.out.tfevents.1.host",
    ],
)
def test_whatever_remains_of_a_run_is_refused(start: Start, remainder: str) -> None:
    file = Path("run") / remainder
    file.parent.mkdir(parents=True)
    file.write_text("kept")
    with pytest.raises(InputError, match="already holds a run") as refused:
        start()
    assert ("ssl-bf resume" in str(refused.value)) == ("step-" in remainder)
    assert snapshot(Path("run")).keys() == {remainder}


def test_an_empty_folder_and_one_with_other_files_are_as_good_as_none(start: Start) -> None:
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/notes.txt").write_text("mine")
    start("epochs=1")
    assert Path("run/notes.txt").read_text() == "mine"
    assert Path("run/backbone.safetensors").exists()


def test_overwriting_deletes_what_a_run_wrote_and_nothing_else(start: Start) -> None:
    start("run.keep_last=5")
    own = {"notes.txt", "my_results.json", "checkpoints/step-best.txt", "tensorboard/mine/x"}
    for name in own:
        file = Path("run") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    events = Path("run/tensorboard/events.out.tfevents.1.host")
    leftover = Path("run/checkpoints/.tmp-step-000000002/state.json")
    judged = [Path("run") / name for name in ("results.json", "results.per_image.safetensors")]
    for file in (events, leftover, *judged):
        file.parent.mkdir(exist_ok=True)
        file.write_text("old")
    before = snapshot(Path("run"))

    start("epochs=1", "seed=1", "run.overwrite=true")
    after = snapshot(Path("run"))
    assert {name: after[name] for name in own} == {name: before[name] for name in own}
    assert not events.exists()
    assert not leftover.exists()
    assert not any(file.exists() for file in judged)  # they are about a backbone that is gone
    saved = {name.split("/")[1] for name in after if name.startswith("checkpoints/step-0")}
    assert saved == {"step-000000001"}
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1]
    unchanged = {name for name in after if after[name] == before.get(name)}
    assert unchanged == own


def fail_at_step(at: int, how: BaseException | float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let step `at` (from 0) raise, or have this loss."""
    update = ssl_bf.train._update

    def failing(run: Run, batch: Batch, context: StepContext, progress: Elapsed) -> torch.Tensor:
        loss = update(run, batch, context, progress)
        if context.step != at:
            return loss
        if isinstance(how, BaseException):
            raise how
        return torch.full_like(loss, how)

    monkeypatch.setattr(ssl_bf.train, "_update", failing)


FAILURES = [BadImageError("9.jpg: bad"), MemoryError(), SystemExit(137), float("nan")]


@pytest.mark.parametrize("how", FAILURES, ids=["bad image", "memory", "killed", "nan"])
def test_a_run_that_does_not_get_through_its_first_step_leaves_the_old_one_whole(
    how: BaseException | float, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("epochs=1")
    Path("run/results.json").write_text("judged")
    before = snapshot(Path("run"))
    error = NonFiniteLoss if isinstance(how, float) else type(how)
    with monkeypatch.context() as patch, pytest.raises(error):
        fail_at_step(0, how, patch)
        start("epochs=1", "seed=1", "run.overwrite=true")
    assert snapshot(Path("run")) == before
    resume(Path("run"))  # it is the old run, finished
    assert snapshot(Path("run")) == before
    with monkeypatch.context() as patch, pytest.raises(error):
        fail_at_step(1, how, patch)
        start("seed=1", "run.overwrite=true", "run.save_every=2epochs")
    assert load_config(PretrainConfig, "run/config.yaml", [], packaged="pretrain").value.seed == 1
    assert not Path("run/backbone.safetensors").exists()


def test_a_new_run_that_does_not_get_through_its_first_step_can_start_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        fail_at_step(0, MemoryError(), patch)
        start("epochs=1")
    assert snapshot(Path("run")) == {}
    start("epochs=1")


def test_two_processes_do_not_train_in_one_directory(start: Start) -> None:
    start("epochs=1")
    before = snapshot(Path("run"))
    other = os.open("run/.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(InputError, match=r"^run\.directory: another process is training in run;"):
        start("epochs=1", "run.overwrite=true")
    with pytest.raises(InputError, match=r"^run\.directory: another process is training in run;"):
        resume(Path("run"))
    Path("run/.lock").unlink()
    assert snapshot(Path("run")) == before
    os.close(other)
    start("epochs=1", "run.overwrite=true")


def test_a_run_that_ended_while_another_was_built_is_not_overwritten(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = build_run

    def build_slowly(config: PretrainConfig, **keywords: Any) -> Run:
        monkeypatch.undo()
        monkeypatch.chdir(folder)
        start("epochs=1")
        return build(config, **keywords)

    folder = Path.cwd()
    monkeypatch.setattr("ssl_bf.build.build_run", build_slowly)
    with pytest.raises(InputError, match=r"already holds a run"):
        start("epochs=2")
    assert "epochs: 1" in Path("run/config.yaml").read_text()


def test_an_overwritten_run_loses_its_backbone_first(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("epochs=1")
    deleted: list[str] = []
    unlink = Path.unlink

    def record(self: Path, missing_ok: bool = False) -> None:
        if self.parent.name == "run" and not self.name.startswith("."):
            deleted.append(self.name)
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", record)
    start("epochs=1", "run.overwrite=true")
    assert deleted[0] == "backbone.safetensors"
    assert deleted[-1] == "config.yaml"


@pytest.mark.parametrize(
    "wrong",
    [
        ["epochs=none"],
        ["relation.context=5"],
        ["batch_size=64"],
        ["backbone.init=missing.safetensors"],
        ["optimizer.warmup_epochs=2"],
        ["data.name=image_folder", "data.root=missing"],
        ["relation.heads=3"],
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_everything_is_checked_before_anything_is_created_or_deleted(
    start: Start, wrong: list[str], overwrite: bool, tmp_path: Path
) -> None:
    if overwrite:
        start("epochs=1")
    before = snapshot(tmp_path)
    with pytest.raises(InputError):
        start(*wrong, f"run.overwrite={str(overwrite).lower()}")
    assert snapshot(tmp_path) == before
    assert Path("run").exists() == overwrite


def test_a_directory_that_cannot_be_made_is_one_line(start: Start) -> None:
    Path("file").write_text("")
    with pytest.raises(InputError, match="^run.directory: file is a file, expected a directory"):
        start("run.directory=file")
    with pytest.raises(InputError, match="^run.directory: .*file/run cannot be written"):
        start("run.directory=file/run")


def test_a_folder_of_ones_own_images_needs_no_test_split_and_none_is_looked_at(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, count in (("train", 12), ("val", 3)):
        for name in ("cat", "dog"):
            folder = Path("images", split, name)
            folder.mkdir(parents=True)
            for number in range(count):
                colour = (20 * number, 0 if name == "cat" else 255, 128)
                Image.new("RGB", (20, 24), colour).save(folder / f"{number}.png")
    # A trap: whoever opens val meets a class that train lacks, and files that are no images.
    trap = Path("images/val/horse")
    trap.mkdir()
    for file in [*Path("images/val").rglob("*.png"), trap / "0.png"]:
        file.write_bytes(b"not an image")
    data = ["data.name=image_folder", "data.root=images", "data.holdout=0.2"]
    start(*data, "run.monitor_every=1", "epochs=1")
    assert Path("run/backbone.safetensors").exists()
    assert "monitor/knn_top1" in Path("run/metrics.jsonl").read_text()
    assert "20 training images, 4 held out" in capsys.readouterr().err


def test_a_run_among_its_own_images_is_refused_before_anything_is_made(
    start: Start, tmp_path: Path
) -> None:
    save_images(Path("images/train"))
    data = ["data.name=image_folder", "data.root=images", "data.holdout=0", "epochs=1"]
    before = snapshot(tmp_path)
    for place in ("images/train", "images/train/run", "images/../images/train/cat/a/run"):
        with pytest.raises(InputError, match=r"^run\.directory: .* lies among the images in "):
            start(*data, f"run.directory={place}", f"speed.store={tmp_path}/store")
    with pytest.raises(InputError, match=r"^store: images/train/store lies among the images in "):
        start(*data, "speed.store=images/train/store")
    assert snapshot(tmp_path) == before
    assert not Path("images/train/run").exists()
    start(*data, "run.directory=images/run")  # beside train/ nothing is read
    Path("images/train").rename("flat")
    with pytest.raises(InputError, match=r"^run\.directory: flat/run lies among the images in "):
        start(*data, "data.root=flat", "run.directory=flat/run")
    start(*data, "data.root=flat", "run.directory=flat/.run")  # hidden folders are not read

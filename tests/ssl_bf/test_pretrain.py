"""Tests of ssl_bf.pretrain: what the commands check, create, delete and refuse."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

import ssl_bf.pretrain
import ssl_bf.train
from linear_eval.backbones.backbone_file import load_backbone
from linear_eval.datasets.decode import BadImageError
from linear_eval.strict_config.reader import load_config
from linear_eval.system.errors import InputError, StoppedBySignal
from ssl_bf.build import Run, build_run
from ssl_bf.config import PretrainConfig
from ssl_bf.keyed_random import StepContext
from ssl_bf.methods.batch import Batch
from ssl_bf.pretrain import export_backbone, pretrain, resume
from ssl_bf.run.checkpoint import load_newest
from ssl_bf.run.log import NonFiniteLoss
from ssl_bf.run.signals import StopSignals
from ssl_bf.schedules import Elapsed

TINY: dict[str, Any] = {
    "data": {"name": "textures", "train_images": 40},
    "views": {"recipe": "moco_v2", "size": 16},
    "backbone": {"name": "small_conv"},
    "method": {"name": "simsiam", "projection_dim": 16, "hidden_dim": 16},
    "relation": {"name": "batchformer", "context": 8},
    "optimizer": {"name": "sgd"},
    "epochs": 2,
    "batch_size": 16,
    "precision": "float32",
    "speed": {"device": "cpu"},
    "run": {"directory": "run", "tensorboard": False, "checkpoint_every": 1, "monitor_every": 0},
}
STEPS = 2

Start = Callable[..., None]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Train the tiny run in the current folder, with overrides."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    return lambda *overrides: pretrain("tiny.yaml", overrides)


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    """Path -> digest and time of change, of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def save_images(folder: Path) -> None:
    """Eight of two classes each."""
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            Image.new("RGB", (20, 24), (20 * number, 0, 0)).save(folder / name / f"{number}.png")


def stop_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StopSignals, "should_stop", lambda self: True)


def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def update(*_: object) -> torch.Tensor:
        raise AssertionError("a step was made")

    monkeypatch.setattr(ssl_bf.train, "_update", update)


# What auto chose


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_resumed_run_computes_as_it_began_whatever_is_faster_now(
    precision: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(_: PretrainConfig) -> dict[str, float]:
        return {"float32": 1.0, "bf16": 0.5 if precision == "bf16" else 2.0}

    def other_seconds(_: PretrainConfig) -> dict[str, float]:
        return {"float32": 1.0, "bf16": 2.0 if precision == "bf16" else 0.5}

    place = "ssl_bf.measured_choices.seconds_of_precisions"
    monkeypatch.setattr(place, seconds)
    start("precision=auto", "run.directory=whole", "epochs=3")
    assert json.loads(Path("whole/environment.json").read_bytes())["precision"] == precision
    with monkeypatch.context() as patch:
        stop_at_once(patch)
        with pytest.raises(StoppedBySignal):
            start("precision=auto", "epochs=3")
    assert load_newest(Path("run")).state["precision"] == precision
    Path("run/environment.json").write_text('{"precision": "fp8"}')
    monkeypatch.setattr(place, other_seconds)
    resume(Path("run"))
    assert "precision: auto" in Path("run/config.yaml").read_text()
    whole, again = (load_newest(Path(name)).tensors for name in ("whole", "run"))
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    _, info = load_backbone(Path("run/backbone.safetensors"))
    assert info.provenance["precision"] == precision
    start("precision=auto", "run.directory=other", "epochs=3")  # bits do depend on it
    other = load_newest(Path("other")).tensors
    assert not all(torch.equal(whole[name], other[name]) for name in whole)


def test_a_resumed_run_has_as_many_threads_as_it_began_with(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    try:
        with monkeypatch.context() as patch:
            patch.setenv("OMP_NUM_THREADS", "2")
            stop_at_once(patch)
            with pytest.raises(StoppedBySignal):
                start()
        assert load_newest(Path("run")).state["threads"] == 2
        Path("run/environment.json").unlink()
        torch.set_num_threads(1)
        resume(Path("run"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# Starting a run


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
    start("run.keep_checkpoints=5")
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
        start("seed=1", "run.overwrite=true", "run.checkpoint_every=2")
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
    other = os.open("run", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(InputError, match=r"^run\.directory: another process is training in run;"):
        start("epochs=1", "run.overwrite=true")
    with pytest.raises(InputError, match=r"^run\.directory: another process is training in run;"):
        resume(Path("run"))
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
    monkeypatch.setattr(ssl_bf.pretrain, "build_run", build_slowly)
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


# Going on with a run


def test_a_finished_run_is_left_as_it_is(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start()
    before = snapshot(Path("run"))
    no_training(monkeypatch)
    resume(Path("run"))
    assert snapshot(Path("run")) == before
    assert capsys.readouterr().out == (
        "run: the run is finished; its backbone is run/backbone.safetensors\n"
    )


def test_a_run_killed_between_its_last_checkpoint_and_its_backbone_gets_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    whole = Path("run/backbone.safetensors").read_bytes()
    Path("run/backbone.safetensors").unlink()
    no_training(monkeypatch)
    resume(Path("run"))
    assert Path("run/backbone.safetensors").read_bytes() == whole
    assert json.loads(Path("run/status.json").read_text())["state"] == "finished"


def test_a_run_can_be_moved_before_it_goes_on(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(StoppedBySignal):
        stop_at_once(patch)
        start()
    Path("run").rename("elsewhere")
    resume(Path("elsewhere"))
    assert Path("elsewhere/backbone.safetensors").exists()
    assert not Path("run").exists()


def test_another_number_of_processes_is_refused(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    before = snapshot(Path("run"))
    monkeypatch.setattr(ssl_bf.pretrain, "world_size", lambda: 2)
    with pytest.raises(InputError, match="was trained by 1 process.* resumes on 2") as refused:
        resume(Path("run"))
    assert "torchrun --nproc-per-node 1" in str(refused.value)
    assert snapshot(Path("run")) == before


def test_a_config_that_was_changed_since_it_began_is_refused(start: Start) -> None:
    start()
    config = Path("run/config.yaml")
    config.write_text(config.read_text().replace("epochs: 2", "epochs: 3"))
    before = snapshot(Path("run"))
    with pytest.raises(InputError, match="config.yaml says epochs=3, but it began with 2, and"):
        resume(Path("run"))
    assert snapshot(Path("run")) == before


def test_its_images_may_have_moved_but_must_be_those_it_began_with(start: Start) -> None:
    save_images(Path("images/train"))
    start("data.name=image_folder", "data.root=images", "data.holdout=0")
    Path("images").rename("moved")
    with pytest.raises(InputError, match=r"^data\.root: 'images' is not a folder"):
        resume(Path("run"))
    resume(Path("run"), ["data.root=moved"])
    Image.new("RGB", (20, 20)).save("moved/train/cat/more.png")
    before = snapshot(Path("run"))
    with pytest.raises(InputError, match="run: the training images are not those that it began"):
        resume(Path("run"), ["data.root=moved"])
    assert snapshot(Path("run")) == before


def test_images_replaced_by_others_of_the_same_size_are_noticed(start: Start) -> None:
    folder = Path("images/train/cat")
    folder.mkdir(parents=True)
    for number in range(24):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(folder / f"{number:02d}.bmp")
    start("data.name=image_folder", "data.root=images", "data.holdout=0")
    shutil.copytree("images", "copied")
    resume(Path("run"), ["data.root=copied"])
    Image.new("RGB", (20, 20), (200, 0, 0)).save(folder / "07.bmp")
    with pytest.raises(InputError, match="run: the training images .* but other contents"):
        resume(Path("run"))


def test_keys_that_leave_the_result_alone_may_change(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("run.directory=whole")
    with monkeypatch.context() as patch, pytest.raises(StoppedBySignal):
        stop_at_once(patch)
        start()
    before = Path("run/config.yaml").read_text()
    resume(Path("run"), ["speed.images=files", "run.log_every=1", "data.on_bad_image=skip"])
    ours, theirs = load_newest(Path("run")).tensors, load_newest(Path("whole")).tensors
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert Path("run/config.yaml").read_text() == before


@pytest.mark.parametrize(
    "override", ["epochs=9", "seed=1", "run.directory=b", "data.seed=1", "speed.like=b"]
)
def test_keys_that_make_another_run_are_refused(override: str, start: Start) -> None:
    start("epochs=1")
    with pytest.raises(InputError, match="cannot change while a run goes on"):
        resume(Path("run"), [override])


def test_the_file_a_run_started_from_is_needed_no_more(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("epochs=1", "run.directory=first")
    init = "backbone.init=first/backbone.safetensors"
    start(init, "run.directory=whole")
    with monkeypatch.context() as patch, pytest.raises(StoppedBySignal):
        stop_at_once(patch)
        start(init)
    Path("first/backbone.safetensors").rename("moved.safetensors")
    resume(Path("run"))
    ours, theirs = load_newest(Path("run")).tensors, load_newest(Path("whole")).tensors
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    _, info = load_backbone(Path("run/backbone.safetensors"))
    shared = yaml.safe_load(info.provenance["config"])
    assert shared["backbone"]["init"] == "???"  # that there was one, but no place


@pytest.mark.parametrize("command", [resume, lambda path: export_backbone(path, Path("out"))])
def test_a_folder_without_a_run_is_refused(
    command: Callable[[Path], None], start: Start, tmp_path: Path
) -> None:
    before = snapshot(tmp_path)
    for name, problem in (("missing", "no such directory"), (".", "holds no run")):
        with pytest.raises(InputError, match=problem):
            command(Path(name))
    assert snapshot(tmp_path) == before


# Handing over


def test_the_export_is_the_backbone_of_the_newest_checkpoint(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch, pytest.raises(StoppedBySignal):
        stop_at_once(patch)
        start()
    output = Path("out.safetensors")
    export_backbone(Path("run"), output)
    backbone, info = load_backbone(output)
    assert info.provenance["step"] == 1
    saved = load_newest(Path("run")).tensors
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, saved[f"method/backbone.{name}"])
    assert capsys.readouterr().out == "backbone after step 1: out.safetensors\n"


def test_an_export_needs_no_data(start: Start) -> None:
    folder = Path("images/one")
    folder.mkdir(parents=True)
    for number in range(16):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(folder / f"{number}.png")
    start("data.name=image_folder", "data.root=images", "data.holdout=0", "epochs=1")
    Path("images").rename("gone")
    export_backbone(Path("run"), Path("out.safetensors"))
    ours, theirs = Path("out.safetensors"), Path("run/backbone.safetensors")
    assert ours.read_bytes() == theirs.read_bytes()


def test_without_an_output_an_export_lies_in_the_run(start: Start) -> None:
    start("epochs=1")
    backbone = Path("run/backbone.safetensors")
    written = backbone.read_bytes()
    backbone.unlink()
    export_backbone(Path("run"), None)
    assert load_backbone(backbone)[1].feature_dim == 128
    assert len(backbone.read_bytes()) == len(written)


def test_an_export_replaces_a_file_only_when_told_or_its_own(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("epochs=1")
    output = Path("out.safetensors")
    output.write_text("mine")
    refused = r"^--output: out\.safetensors exists already; give another path or --overwrite$"
    with monkeypatch.context() as patch, pytest.raises(InputError, match=refused):
        patch.delattr("ssl_bf.run.checkpoint.load_newest")  # nothing is read before
        export_backbone(Path("run"), output)
    assert output.read_text() == "mine"
    export_backbone(Path("run"), output, overwrite=True)
    Path("run/backbone.safetensors").write_text("damaged")
    export_backbone(Path("run"), None)
    assert output.read_bytes() == Path("run/backbone.safetensors").read_bytes()


def test_an_export_for_a_tool_that_lacks_the_architecture_writes_nothing(start: Start) -> None:
    start("epochs=1")
    with pytest.raises(InputError, match="torchvision has no small_conv"):
        export_backbone(Path("run"), Path("out.pth"), "torchvision")
    assert not Path("out.pth").exists()


def test_a_config_of_another_architecture_is_refused_before_anything_is_written(
    start: Start,
) -> None:
    start("epochs=1")
    file = Path("run/config.yaml")
    file.write_text(file.read_text().replace("name: small_conv", "name: resnet18"))
    before = snapshot(Path("run"))
    with pytest.raises(InputError, match="its newest checkpoint holds no resnet18"):
        export_backbone(Path("run"), Path("out.safetensors"))
    assert not Path("out.safetensors").exists()
    with pytest.raises(InputError, match=r"^run: its config.yaml says backbone.name=resnet18, but"):
        resume(Path("run"))
    assert snapshot(Path("run")) == before

"""Tests of ssl_bf.commands.resume: what it goes on with, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from linear_eval.backbones.backbone_file import load_backbone
from linear_eval.system.errors import InputError, StoppedBySignal
from ssl_bf.build import Run
from ssl_bf.commands.export import export_backbone
from ssl_bf.commands.resume import config_to_go_on, restored, resume
from ssl_bf.config import PretrainConfig
from ssl_bf.run import checkpoint
from ssl_bf.run.checkpoint import load_newest
from tests.tiny_run import Start, no_training, save_images, snapshot, stop_at_once


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_resumed_run_computes_as_it_began_whatever_is_faster_now(
    precision: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(_: PretrainConfig) -> dict[str, float]:
        return {"float32": 1.0, "bf16": 0.5 if precision == "bf16" else 2.0}

    def other_seconds(_: PretrainConfig) -> dict[str, float]:
        return {"float32": 1.0, "bf16": 2.0 if precision == "bf16" else 0.5}

    place = "ssl_bf.choices.measured_choices.seconds_of_precisions"
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


def test_processes_that_cannot_share_its_shards_are_refused(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    before = snapshot(Path("run"))
    monkeypatch.setattr("ssl_bf.ranks.shards_of_run.world_size", lambda: 2)
    with pytest.raises(InputError, match="^run: shards: 1 cannot be shared by 2 pro") as refused:
        resume(Path("run"))
    assert str(refused.value).endswith("start torchrun with --nproc-per-node 1")
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


Change = tuple[str, dict[str, Any]]


def changed(value: Any) -> Any:
    """Another value that could stand there."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, list):
        return [changed(value[0]), *value[1:]] if value else [1]
    return f"{value}x"


def all_changes(state: dict[str, Any]) -> Iterator[Change]:
    """The name of each entry, those of `settings` among them, and the state with another value."""
    for name, value in state.items():
        if name != "settings":
            yield name, {**state, name: changed(value)}
            continue
        for key, setting in value.items():
            yield f"settings.{key}", {**state, name: {**value, key: changed(setting)}}


@pytest.fixture
def stopped(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run on files that are read as a whole, stopped after its first step."""
    threads = torch.get_num_threads()
    save_images(tmp_path / "photos")
    with monkeypatch.context() as patch:
        stop_at_once(patch)
        with pytest.raises(StoppedBySignal):
            start(
                *("data.name=image_folder", f"data.root={tmp_path}/photos", "precision=auto"),
                *("batch_size=8", "relation.context=4"),
            )
    yield Path("run")
    torch.set_num_threads(threads)


def test_another_value_of_any_entry_is_refused_or_followed(stopped: Path) -> None:
    config = config_to_go_on(stopped, [])
    saved = checkpoint.load_newest(stopped)
    assert len(saved.state["settings"]) > 40
    threads = torch.get_num_threads()
    follows: dict[str, Callable[[Run], bool]] = {
        "world_size": lambda run: any("2 process(es) before" in note for note in run.notes),
        "shards": lambda run: run.num_shards == 2,
        "precision": lambda run: run.choices.precision == "bf16",
        "threads": lambda run: torch.get_num_threads() == threads + 1,
    }
    followed = set()
    for name, state in all_changes(saved.state):
        if name == "precision":
            state = {**state, name: "bf16"}
        if name == "image_contents":  # asked for where the times of the files are others
            state = {**state, "image_stamps": "others"}
        _write(stopped, saved, state)
        try:
            run, _ = restored(config, stopped)
        except InputError:
            continue
        with run.loader:
            assert name in ("image_stamps", *follows), f"{name} was changed, and nothing shows"
            assert name == "image_stamps" or follows[name](run), name
        followed.add(name)
    assert followed == {"image_stamps", *follows}


def _write(directory: Path, saved: checkpoint.Checkpoint, state: dict[str, Any]) -> None:
    """In the place of the checkpoint that is there, whose sums then fit."""
    for folder in (directory / "checkpoints").iterdir():
        folder.rename(directory / f"before-{len(list(directory.iterdir()))}")
    checkpoint.save(directory, step=saved.step, tensors=saved.tensors, state=state, keep=1)

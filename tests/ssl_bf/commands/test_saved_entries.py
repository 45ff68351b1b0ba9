"""Every JSON entry of a checkpoint is read: another value is refused, or the run follows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from linear_eval.system.errors import InputError, StoppedBySignal
from ssl_bf.commands.resume import config_to_go_on, restored
from ssl_bf.run import checkpoint
from tests.tiny_run import Start, save_images, stop_at_once

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
def stopped(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on files that are read as a whole, stopped after its first step."""
    save_images(tmp_path / "photos")
    with monkeypatch.context() as patch:
        stop_at_once(patch)
        with pytest.raises(StoppedBySignal):
            start(
                *("data.name=image_folder", f"data.root={tmp_path}/photos", "precision=auto"),
                *("batch_size=8", "relation.context=4"),
            )
    return Path("run")


def test_another_value_of_any_entry_is_refused_or_followed(stopped: Path) -> None:
    config = config_to_go_on(stopped, [])
    saved = checkpoint.load_newest(stopped)
    assert len(saved.state["settings"]) > 40
    threads = torch.get_num_threads()
    follows = {
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
    torch.set_num_threads(threads)
    assert followed == {"image_stamps", *follows}


def _write(directory: Path, saved: checkpoint.Checkpoint, state: dict[str, Any]) -> None:
    """In the place of the checkpoint that is there, whose sums then fit."""
    for folder in (directory / "checkpoints").iterdir():
        folder.rename(directory / f"before-{len(list(directory.iterdir()))}")
    checkpoint.save(directory, step=saved.step, tensors=saved.tensors, state=state, keep=1)

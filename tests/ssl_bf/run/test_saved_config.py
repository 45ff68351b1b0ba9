"""Runs that were begun before some keys came or went."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from linear_eval.strict_config.reader import ConfigError, to_yaml
from linear_eval.system.errors import InputError, StoppedBySignal
from ssl_bf.commands.pretrain import pretrain
from ssl_bf.commands.resume import resume
from ssl_bf.config import PretrainConfig
from ssl_bf.relations import RelationConfig
from ssl_bf.relations.batchformer import BatchFormerConfig
from ssl_bf.relations.controls import CopyConfig, DropoutOnlyConfig, SelfOnlyConfig
from ssl_bf.run.saved_config import IMAGE_ORDER, check_order, saved_config
from ssl_bf.run.signals import Asked, StopSignals

RUN: dict[str, Any] = {
    "data": {"name": "textures", "train_images": 40},
    "views": {"recipe": "moco_v2", "size": 16},
    "backbone": {"name": "small_conv"},
    "method": {"name": "simsiam", "projection_dim": 16, "hidden_dim": 16},
    "optimizer": {"name": "sgd"},
    "epochs": 2,
    "batch_size": 16,
    "precision": "float32",
    "speed": {"device": "cpu"},
    "run": {"directory": "run", "tensorboard": False, "save_every": "1epoch", "monitor_every": 0},
}
# As they were written: every relation with two streams had these.
COMMON = {"insert_at": "backbone", "pairs": "all", "parameters": "ema", "lr_scale": 0.1}
COMMON |= {"key_dropout": "off", "context": 16}


def written(folder: Path, relation: dict[str, Any]) -> Path:
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump({**RUN, "relation": relation}))
    return folder


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("copy", CopyConfig(insert_at="backbone", pairs="all")),
        ("dropout_only", DropoutOnlyConfig(insert_at="backbone", pairs="all", key_dropout="off")),
        (
            "self_only",
            SelfOnlyConfig(insert_at="backbone", pairs="all", lr_scale=0.1, key_dropout="off"),
        ),
        (
            "batchformer",
            BatchFormerConfig(
                insert_at="backbone", pairs="all", lr_scale=0.1, key_dropout="off", context=16
            ),
        ),
    ],
)
def test_keys_that_a_relation_ignored_are_left_out(
    name: str, expected: RelationConfig, tmp_path: Path
) -> None:
    assert saved_config(written(tmp_path, {"name": name, **COMMON}), []).relation == expected


@pytest.mark.parametrize(
    "relation", [{"name": "copy", "kontext": 8}, {"name": "batchformer", "x": 1}]
)
def test_other_unknown_keys_stay_wrong(relation: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^relation\.\w+: no such key"):
        saved_config(written(tmp_path, relation), [])
    with pytest.raises(ConfigError, match=r"^speed\.devise: no such key"):
        saved_config(written(tmp_path, {"name": "copy"}), ["speed.devise=cpu"])


def test_a_folder_of_images_was_read_as_it_was_stored(tmp_path: Path) -> None:
    data = {"name": "image_folder", "root": "images"}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({**RUN, "data": data}))
    config: PretrainConfig = saved_config(tmp_path)
    assert "orientation: stored" in to_yaml(config)
    file.write_text(yaml.safe_dump({**RUN, "data": {**data, "orientation": "exif"}}))
    assert "orientation: stored" not in to_yaml(saved_config(tmp_path))


def test_a_run_begun_with_ignored_keys_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, {"name": "copy"})
    monkeypatch.setattr(StopSignals, "agreed", lambda *_, save_is_due: Asked(True, save_is_due))
    with pytest.raises(StoppedBySignal):
        pretrain("config.yaml", [])
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    file = Path("run/config.yaml")
    began = yaml.safe_load(file.read_text())
    began["relation"] |= {"parameters": "ema", "lr_scale": 1.0, "key_dropout": "on", "context": 8}
    file.write_text(yaml.safe_dump(began))
    resume(Path("run"))
    assert Path("run/backbone.safetensors").is_file()


def test_a_run_keeps_the_order_of_images_it_began_with() -> None:
    check_order({"seed": 3, **IMAGE_ORDER})
    for saved in ({"seed": 3}, {"image_order": "another"}):
        with pytest.raises(InputError, match="^was begun by a version that gave the images"):
            check_order(saved)

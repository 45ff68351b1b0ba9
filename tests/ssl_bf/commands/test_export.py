"""Tests of ssl_bf.commands.export: what it writes, and where."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from linear_eval.backbones.backbone_file import load_backbone
from linear_eval.system.errors import InputError, StoppedBySignal
from ssl_bf.commands.export import export_backbone
from ssl_bf.commands.resume import resume
from ssl_bf.run.checkpoint import load_newest
from tests.tiny_run import Start, snapshot, stop_at_once


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
        patch.setattr("ssl_bf.run.checkpoint.load_newest", pytest.fail)  # nothing is read before
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

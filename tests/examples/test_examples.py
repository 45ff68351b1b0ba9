"""The programs of examples/ run, and are short."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from linear_eval.backbones.timm_models import build_timm

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(
    name: str, arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Its names, once it has run in `folder`."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_every_example_is_short_and_tried() -> None:
    tried = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 40, path
        assert f'"{path.name}"' in tried, path


def test_own_loop_with_lightly(
    material: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lightly", reason="lightly is not installed")
    run("own_loop_with_lightly.py", ["photos/test", "1", "16"], material, monkeypatch)
    loss, quality = capsys.readouterr().out.splitlines()
    assert loss.startswith("epoch 1: loss ")
    assert "rankme" in quality


def test_judge_a_timm_model(
    material: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("timm", reason="timm is not installed")

    def untrained(name: str, *, pretrained: bool) -> nn.Module:
        """Without a network there are no weights."""
        assert pretrained
        return build_timm(name, pretrained=False)

    monkeypatch.setattr("linear_eval.backbones.opened.build_timm", untrained)
    arguments = ["photos/train", "photos/test", "resnet10t.c3_in1k"]
    run("judge_a_timm_model.py", arguments, material, monkeypatch)
    knn, probe = capsys.readouterr().out.splitlines()
    assert knn.startswith("knn/k=5/top1: ") and "pixels" in knn
    assert probe.startswith("linear_probe/top1: ")


def test_a_model_that_timm_lacks_is_one_line(
    material: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["photos/train", "photos/test", "resnet1o"]
    with pytest.raises(SystemExit, match="resnet1o"):
        run("judge_a_timm_model.py", arguments, material, monkeypatch)


def test_index_a_folder(
    material: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("faiss", reason="faiss is not installed")
    arguments = ["backbone.safetensors", "photos/test", "beach.png", str(tmp_path / "index")]
    printed = []
    for _ in range(2):  # built, then opened
        run("index_a_folder.py", arguments, material, monkeypatch)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    first = printed[0].splitlines()[0].split()
    assert first[:2] == ["1", "1.000"]
    assert first[2].endswith("3.png")

"""Tests of ssl_bf.commands.relations: the picture, the numbers, and what is refused."""

from __future__ import annotations

import io
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from linear_eval.system.errors import InputError
from ssl_bf.cli import main
from ssl_bf.commands.pretrain import pretrain
from ssl_bf.commands.relations import draw_relations
from tests.tiny_run import TINY, snapshot

QUICK = [
    *("epochs=1", "data.train_images=40", "data.holdout=0", "speed.threads=1"),
    *("run.log_every=1", "relation.residual=gate"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    pretrain(str(folder / "tiny.yaml"), [*QUICK, f"run.directory={folder / 'run'}"])
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "run")
    return Path("run")


def test_a_run_gives_a_picture_and_the_numbers_behind_it(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(run)
    assert main(["relations", "run"]) == 0
    picture = Image.open(io.BytesIO((run / "relations.png").read_bytes()))
    assert picture.format == "PNG"
    assert 1500 < picture.width < 2500 and 1500 < picture.height < 3000
    assert len(picture.convert("RGB").getcolors(2**24) or []) > 100
    found = json.loads((run / "relations.json").read_text())
    assert (found["step"], found["relation"], found["view"]) == (2, "batchformer", 2)
    assert found["notes"] == ["dropout of the relation is off"]
    assert len(found["images"]) == len(found["classes"]) == 16
    assert [len(group) for group in found["groups"]] == [8, 8]
    (layer,) = found["layers"]
    assert layer["log_rows_to_choose_from"] == pytest.approx(math.log(8), abs=1e-6)
    assert layer["relative_entropy"] == pytest.approx(layer["entropy"] / math.log(8), abs=1e-5)
    assert 0 <= layer["share_of_same_class"] <= 1
    assert found["same_class_at_random"] == pytest.approx(0.1)
    assert [each["row"] for each in found["rows"]] == found["groups"][0]
    for each in found["rows"]:
        weights = [other["weight"] for other in each["attends_to"]]
        assert weights == sorted(weights, reverse=True)
        assert sum(weights) == pytest.approx(1, abs=1e-4)
        itself = [other["image"] for other in each["attends_to"] if other["itself"]]
        assert itself == [each["image"]]
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    curve = found["over_training"]["attention_entropy/layer_0"]
    assert curve == {
        "step": [1, 2],
        "value": [line["attention_entropy/layer_0"] for line in logged],
    }
    assert {"gate", "stream_cosine"} <= found["over_training"].keys()
    assert all(0 < value <= 1 for value in curve["value"])
    assert "written: run/relations.png and run/relations.json" in capsys.readouterr().out
    after = snapshot(run)
    assert {name: after[name] for name in before} == before
    written = (run / "relations.json").read_bytes()
    assert main(["relations", "run"]) == 0  # its own, made again, is the same
    assert (run / "relations.json").read_bytes() == written


def test_rows_and_output_are_as_asked(run: Path) -> None:
    draw_relations(run, rows=[3, 0, 3], output=Path("mine.png"))
    found = json.loads(Path("mine.json").read_text())
    assert [each["row"] for each in found["rows"]] == [3, 0]
    assert not (run / "relations.png").exists()
    with pytest.raises(InputError, match=r"^--output: mine\.png exists already; give another"):
        draw_relations(run, output=Path("mine.png"))
    draw_relations(run, output=Path("mine.png"), overwrite=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "16"], "--rows: 16 is no row of the batch, expected 0 to 15"),
        (["--output", "mine.jpg"], "--output: 'mine.jpg' does not end in .png"),
        (["seed=1", "--output", "run/x.png"], "seed: cannot change while a run"),
    ],
)
def test_wrong_arguments_are_one_line_and_nothing_is_written(
    run: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(Path())
    assert main(["relations", "run", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert snapshot(Path()) == before


def test_rows_that_are_no_numbers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["relations", "run", "--rows", "first"])
    assert "'first', expected whole numbers such as 0,5,9" in capsys.readouterr().err


def test_without_matplotlib_one_line_names_the_extra(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["relations", "run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: matplotlib: cannot be imported")
    assert line.endswith("pip install 'ssl-bf[report]'")


def test_a_run_without_checkpoint_or_relation_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("tiny.yaml").write_text(yaml.safe_dump({**TINY, "relation": {"name": "none"}}))
    pretrain("tiny.yaml", [*QUICK[:-1], "run.directory=plain"])
    capsys.readouterr()
    assert main(["relations", "plain"]) == 2
    assert "relation.name: this run has no relation" in capsys.readouterr().err
    shutil.rmtree("plain/checkpoints")
    assert main(["relations", "plain"]) == 2
    assert "plain: holds no checkpoint" in capsys.readouterr().err
    assert main(["relations", "nothing"]) == 2
    assert "nothing: no such directory" in capsys.readouterr().err
    assert not Path("plain/relations.png").exists()


def test_images_without_labels_and_a_relation_without_attention_are_drawn_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    for number in range(20):
        Image.new("RGB", (20, 24), (12 * number, 0, 90)).save(f"images/{number}.png")
    data = {"name": "image_folder", "root": "images"}
    numbers: dict[str, Any] = {}
    for name in ("batchformer", "copy"):
        Path("tiny.yaml").write_text(
            yaml.safe_dump({**TINY, "data": data, "relation": {"name": name}})
        )
        context = ["relation.context=8"] if name == "batchformer" else []
        pretrain("tiny.yaml", ["epochs=1", "speed.threads=1", *context, f"run.directory={name}"])
        assert main(["relations", name]) == 0
        numbers[name] = json.loads(Path(name, "relations.json").read_text())
        assert Image.open(Path(name, "relations.png")).size[0] == 1820
    layer = numbers["batchformer"]["layers"][0]
    assert numbers["batchformer"]["classes"] is None
    assert numbers["batchformer"]["same_class_at_random"] is None
    assert layer["share_of_same_class"] is None and 0 < layer["share_of_itself"] < 1
    assert numbers["copy"]["layers"] == numbers["copy"]["rows"] == []
    assert numbers["copy"]["stream_cosine"]["mean"] == 1
    assert "there is no attention: the related stream is a copy" in capsys.readouterr().out

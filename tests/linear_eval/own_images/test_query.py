"""`linear-eval index` and `linear-eval query`, from the command line to the picture."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import save_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.cli import main

pytest.importorskip("faiss", reason="faiss is not installed")

NAMES = ("a/1.png", "a/2.png", "b/k\u00e4tzchen \u732b.png", "b/4.png", "b/5.png")


def save(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    backbone = build_backbone("small_conv")
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    save_backbone(path, backbone, BackboneInfo("small_conv", 128, 24, mean, std, {"title": "t"}))
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Five photos, a backbone, and an index of the photos."""
    save(tmp_path / "b.safetensors", 0)
    generator = np.random.default_rng(0)
    for name in NAMES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = generator.integers(0, 256, (5, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse.repeat(8, axis=0).repeat(8, axis=1)).save(path)
    assert index(tmp_path) == 0
    return tmp_path


def index(place: Path, *more: str) -> int:
    command = ["index", str(place / "b.safetensors"), str(place / "photos")]
    return main([*command, "--output", str(place / "index"), *more])


def ask(place: Path, *more: str, photo: str = NAMES[2]) -> int:
    return main(["query", str(place / "index"), str(place / "photos" / photo), *more])


def test_an_image_finds_itself_first_and_answers_agree(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    sheet, answers = place / "s.png", place / "a.json"
    assert ask(place, "--k", "3", "--sheet", str(sheet), "--json", str(answers)) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines() if "\t" in line]
    asked = str(place / "photos" / NAMES[2])
    assert lines[0] == [asked, "1", "1.0000", asked]
    assert [line[1] for line in lines] == ["1", "2", "3"]
    assert float(lines[0][2]) >= float(lines[1][2]) >= float(lines[2][2])
    (said,) = json.loads(answers.read_text())["queries"]
    assert said["image"] == asked
    assert [each["image"] for each in said["neighbours"]] == [line[3] for line in lines]
    with Image.open(sheet) as image:
        assert image.format == "PNG"


def test_several_images_may_stand_around_the_options(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert ask(place, "--k", "1", str(place / "photos" / NAMES[0])) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [Path(line.split("\t")[3]).name for line in lines] == [
        Path(NAMES[2]).name,
        Path(NAMES[0]).name,
    ]


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_approximate_index_says_how_much_it_finds(
    place: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert index(place, "--kind", kind, "--overwrite") == 0
    assert "recall@10 against exact search: 100.0 %" in capsys.readouterr().out
    manifest = json.loads((place / "index" / "manifest.json").read_text())
    assert (manifest["kind"], manifest["recall_at_10"]) == (kind, 1.0)
    assert ask(place, "--k", "2") == 0


def test_an_image_that_is_gone_is_shown_grey_and_said_so(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "photos" / NAMES[1]).unlink()
    capsys.readouterr()
    twice = str(place / "photos" / NAMES[0])  # both find it; it is said once
    assert ask(place, "--k", "5", "--sheet", str(place / "s.png"), twice) == 0
    lines = capsys.readouterr().out.splitlines()
    # where no font has the letters of all names, another note says so
    notes = [line for line in lines if line.startswith("note:") and "letters" not in line]
    assert len(notes) == 1
    assert "2.png: cannot be read any more, shown as a grey tile" in notes[0]
    with Image.open(place / "s.png") as image:
        assert (np.array(image) == (205, 205, 205)).all(axis=2).any()


def test_the_backbone_may_move_but_not_change(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "b.safetensors").rename(place / "moved.safetensors")
    assert ask(place, "--k", "1") == 2
    assert "give its path as --backbone FILE" in capsys.readouterr().err
    assert ask(place, "--k", "1", "--backbone", str(place / "moved.safetensors")) == 0
    save(place / "b.safetensors", 1)
    capsys.readouterr()
    assert ask(place, "--k", "1") == 2
    assert "is another backbone than that of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--k", "6"], "--k: 6 neighbours out of 5 indexed images, expected 1 to 5"),
        (["--k", "0"], "--k: 0 neighbours"),
        (["{place}/none.png", "--k", "1"], "none.png: no such file"),
        (["{place}/b.safetensors", "--k", "1"], "b.safetensors: cannot be decoded"),
        (["--sheet", "s.jpg"], "--sheet: 's.jpg' does not end in .png"),
        (["--sheet", "{place}/gone/s.png"], "no such folder"),
        (["--json", "a.txt"], "--json: 'a.txt' does not end in .json"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    place: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in place.iterdir())
    capsys.readouterr()
    assert ask(place, *(text.format(place=place) for text in arguments)) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "on_bad_image" not in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert sorted(path.name for path in place.iterdir()) == before


def test_images_of_no_file_are_named_only(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "t.yaml").write_text("data: {name: textures, train_images: 12, test_images: 10}\n")
    command = ["index", str(place / "b.safetensors"), str(place / "t.yaml")]
    assert main([*command, "--output", str(place / "index"), "--overwrite", "data.holdout=0"]) == 0
    assert "no files of their own" in capsys.readouterr().out
    assert ask(place, "--k", "1", "--sheet", str(place / "s.png")) == 0
    captured = capsys.readouterr().out
    # 64 x 40 pixels asked of an index of 32 x 32
    assert "resized to 32 x 32 pixels" in captured
    assert "\ttextures/train/" in captured

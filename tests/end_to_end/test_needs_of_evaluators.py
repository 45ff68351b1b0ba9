"""What evaluators need of the data, and evaluations whose gallery is not the test split."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from linear_eval.cli import main


def photos(root: Path, names: list[str]) -> None:
    generator = np.random.default_rng(0)
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)


def run(root: Path, *overrides: str) -> int:
    config = root / "c.yaml"
    config.write_text("backbone: random\narchitecture: small_conv\nimage_size: 8\n")
    output = f"output={root / 'r.json'}"
    return main(["run", str(config), f"data.root={root}", output, *overrides])


def results(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "r.json").read_text())
    return found


@pytest.fixture
def disjoint(tmp_path: Path) -> list[str]:
    photos(tmp_path, [f"train/{c}/{i}.png" for c in "ab" for i in range(4)])
    photos(tmp_path, [f"test/{c}/{i}.png" for c in "cd" for i in range(3)])
    return ["data.name=image_folder", "data.classes=disjoint", "retrieval.recall_at=[1, 2]"]


def test_class_disjoint_retrieval_needs_no_train_features(
    tmp_path: Path, disjoint: list[str]
) -> None:
    assert run(tmp_path, *disjoint, "evaluators=[retrieval]") == 0
    found = results(tmp_path)
    assert found["metrics"].keys() == {
        f"retrieval/{name}" for name in ("recall@1", "recall@2", "map", "map@r", "r_precision")
    }
    assert found["data"]["classes"] == 2
    assert (found["data"]["train_images"], found["data"]["test_images"]) == (0, 6)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["evaluators=[knn, retrieval]"], "expected [retrieval] alone"),
        (["evaluators=[retrieval]", "retrieval.gallery=train"], "no test image has a class of"),
        (["evaluators=[retrieval]", "retrieval.recall_at=[6]"], "rank 6 among 5 other test"),
        (["evaluators=[retrieval]", "data.classes=shared"], "set data.classes=disjoint"),
    ],
)
def test_what_disjoint_classes_cannot_do_is_said(
    tmp_path: Path,
    disjoint: list[str],
    overrides: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(tmp_path, *disjoint, *overrides) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "r.json").exists()


def test_the_gallery_may_be_train_with_its_holdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos(tmp_path, [f"train/{c}/{i}.png" for c in "ab" for i in range(4)])
    photos(tmp_path, [f"test/{c}/{i}.png" for c in "ab" for i in range(2)])
    arguments = ["data.name=image_folder", "evaluators=[retrieval]", "retrieval.gallery=train"]
    assert run(tmp_path, *arguments, "retrieval.recall_at=[8]") == 0
    assert results(tmp_path)["data"]["train_images"] == 8
    assert results(tmp_path)["metrics"]["retrieval/recall@8"] == 100
    assert run(tmp_path, *arguments, "retrieval.recall_at=[9]") == 2
    assert "rank 9 among 8 train images" in capsys.readouterr().err


def test_in_shop_queries_search_the_gallery(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"img/{s}{i}.png item{s[0]}{i % 2} {s}" for s in ("train",) for i in range(4)]
    lines += [f"img/{s}{i}.png item{i % 2} {s}" for s in ("query", "gallery") for i in range(4)]
    photos(tmp_path, [line.split()[0] for line in lines])
    header = "image_name item_id evaluation_status"
    text = "\n".join([str(len(lines)), header, *lines])
    (tmp_path / "list_eval_partition.txt").write_text(text)
    arguments = ["data.name=in_shop", "evaluators=[retrieval]"]
    assert run(tmp_path, *arguments, "retrieval.recall_at=[1, 4]") == 0
    found = results(tmp_path)
    assert (found["data"]["test_images"], found["data"]["gallery_images"]) == (4, 4)
    assert found["metrics"]["retrieval/recall@4"] == 100
    assert run(tmp_path, *arguments, "retrieval.recall_at=[5]") == 2
    assert "rank 5 among 4 gallery images" in capsys.readouterr().err


def test_revisited_queries_are_scored_at_three_difficulties(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"g{number}" for number in range(6)]
    photos(tmp_path, [f"jpg/{name}.jpg" for name in [*names, "q"]])
    truth = {
        "imlist": names,
        "qimlist": ["q"],
        "gnd": [{"bbx": [0, 0, 8, 8], "easy": [0], "hard": [1], "junk": [2]}],
    }
    (tmp_path / "t.json").write_text(json.dumps(truth))
    arguments = ["data.name=revisited", f"data.ground_truth={tmp_path / 't.json'}"]
    assert run(tmp_path, *arguments, "evaluators=[retrieval]") == 0
    metrics = results(tmp_path)["metrics"]
    assert len(metrics) == 12
    assert metrics.keys() >= {"retrieval/easy/map", "retrieval/medium/mp@5", "retrieval/hard/map"}
    assert "mAP medium" in capsys.readouterr().out

"""k-NN, retrieval and quality from Python, against the commands and by hand."""

import json
from pathlib import Path

import pytest
import torch

import linear_eval
from linear_eval.cli import main
from linear_eval.datasets import TexturesConfig

DATA = TexturesConfig(train_images=60, test_images=30)


@pytest.fixture(scope="module")
def tables(backbone_file: Path) -> tuple[linear_eval.Features, linear_eval.Features]:
    backbone = linear_eval.load(backbone_file)
    return backbone.features(DATA.open_train()), backbone.features(DATA.open_test())


def test_numbers_are_those_of_the_command(
    tables: tuple[linear_eval.Features, linear_eval.Features], backbone_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results.json"
    small = ["data.train_images=60", "data.test_images=30", "features.folder=none"]
    asked = ["evaluators=[knn, retrieval]", "knn.k=[1, 20]", f"output={output}"]
    given = ["run", "quickstart", f"backbone={backbone_file}", *small, *asked]
    assert main(given) == 0
    metrics = json.loads(output.read_text())["metrics"]
    assert linear_eval.knn(*tables) == metrics["knn/k=20/top1"]
    assert linear_eval.knn(*tables, k=1) == metrics["knn/k=1/top1"]
    found = linear_eval.retrieval(tables[1])
    assert found == {name: metrics[f"retrieval/{name}"] for name in found}
    assert set(found) == {"recall@1", "recall@5", "recall@10", "map", "map@r", "r_precision"}


def test_queries_find_copies_of_themselves_in_a_gallery(
    tables: tuple[linear_eval.Features, linear_eval.Features],
) -> None:
    found = linear_eval.retrieval(tables[1], tables[1], recall_at=(1,))
    assert found["recall@1"] == 100


def test_quality_is_that_of_the_command(backbone_file: Path, photos: Path, tmp_path: Path) -> None:
    features = linear_eval.load(backbone_file).features(photos, views=2)
    output = tmp_path / "quality.json"
    assert main(["quality", str(backbone_file), str(photos), "--json", str(output)]) == 0
    assert linear_eval.quality(features) == json.loads(output.read_text())["metrics"]
    without = linear_eval.Features(features.x, features.labels)
    assert linear_eval.quality(without).keys() == {"rankme", "uniformity"}


def test_images_without_labels_are_refused(
    tables: tuple[linear_eval.Features, linear_eval.Features],
) -> None:
    train, test = tables
    bare = linear_eval.Features(test.x, torch.full_like(test.labels, -1))
    with pytest.raises(linear_eval.InputError, match="test: 30 of 30 images have no label"):
        linear_eval.knn(train, bare)
    with pytest.raises(linear_eval.InputError, match="queries: 30 of 30"):
        linear_eval.retrieval(bare)


def test_other_classes_are_refused(
    tables: tuple[linear_eval.Features, linear_eval.Features],
) -> None:
    train, test = tables
    names = tuple(reversed(test.class_names))
    with pytest.raises(linear_eval.InputError, match="its classes are not those of train"):
        linear_eval.knn(train, linear_eval.Features(test.x, test.labels, class_names=names))


def test_numbered_classes_may_end_sooner() -> None:
    x = torch.eye(3)
    three = linear_eval.Features(x, torch.tensor([0, 1, 2]), class_names=("0", "1", "2"))
    two = linear_eval.Features(x[:2], torch.tensor([0, 1]), class_names=("0", "1"))
    assert linear_eval.knn(three, two, k=1) == 100


@pytest.mark.parametrize("k", [0, 61])
def test_k_has_bounds(tables: tuple[linear_eval.Features, linear_eval.Features], k: int) -> None:
    with pytest.raises(linear_eval.InputError, match="neighbours"):
        linear_eval.knn(*tables, k=k)

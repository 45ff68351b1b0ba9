"""`evaluate` from Python says what the command writes, to the digit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import linear_eval
from linear_eval.cli import main
from linear_eval.datasets import TexturesConfig

DATA = TexturesConfig(train_images=200, test_images=60)
TRAIN, TEST = DATA.open_train(), DATA.open_test()
FAST: dict[str, Any] = {"linear_probe.epochs": 3, "speed.threads": 1, "batch_size": 64}


def dataset(split: Any) -> TensorDataset:
    return TensorDataset(split.pixels, split.labels)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.conv(images).relu().flatten(2).mean(2)
        return features


def test_results_are_those_of_the_command_and_nothing_is_printed(
    backbone_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = linear_eval.evaluate(
        linear_eval.load(backbone_file),
        train=TRAIN,
        test=TEST,
        overrides={**FAST, "baselines": ["pixels", "random"]},
    )
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in backbone_file.parent.iterdir()] == [backbone_file.name]
    output = tmp_path / "results.json"
    texts = [f"{key}={value}" for key, value in FAST.items()]
    texts += ["data.train_images=200", "data.test_images=60", "image_size=32"]
    texts += ["baselines=[pixels, random]", "features.folder=none", f"output={output}"]
    assert main(["run", "quickstart", f"backbone={backbone_file}", *texts]) == 0
    command = json.loads(output.read_text())
    own["data"]["name"] = "textures"
    changing = {"seconds", "per_image", "config", "digest"}  # the data are given, not named
    assert json.loads(json.dumps({k: v for k, v in own.items() if k not in changing})) == {
        k: v for k, v in command.items() if k not in changing
    }


def test_a_data_set_of_pairs_gives_the_same_neighbours(backbone_file: Path) -> None:
    backbone = linear_eval.load(backbone_file)
    given: dict[str, Any] = {"evaluators": ["knn", "retrieval"], "overrides": {"data.holdout": 0}}
    named = linear_eval.evaluate(backbone, train=TRAIN, test=TEST, **given)
    own = linear_eval.evaluate(backbone, train=dataset(TRAIN), test=dataset(TEST), **given)
    assert own["metrics"] == pytest.approx(named["metrics"], abs=1e-9)
    tables = backbone.features(TRAIN), backbone.features(TEST)
    assert linear_eval.knn(*tables) == named["metrics"]["knn/k=20/top1"]


def test_a_module_of_ones_own_is_judged_even_by_training_a_copy() -> None:
    module = Net()
    before = module.conv.weight.clone()
    backbone = linear_eval.load(module, mean=(0.5,) * 3, std=(0.5,) * 3, size=32)
    results = linear_eval.evaluate(
        backbone,
        train=dataset(TRAIN),
        test=dataset(TEST),
        evaluators=["knn", "fine_tune"],
        overrides={"fine_tune.recipe.epochs": 1, "fine_tune.learning_rates": [0.1]},
    )
    assert results["backbone"]["architecture"] == "custom:Net"
    assert {"knn/k=20/top1"} < results["metrics"].keys()
    assert any(key.startswith("fine_tune/") for key in results["metrics"])
    assert torch.equal(module.conv.weight, before)


def test_folders_are_taken_and_the_table_is_shown_if_asked(
    backbone_file: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    linear_eval.evaluate(
        linear_eval.load(backbone_file),
        train=photos,
        test=str(photos),
        evaluators=["knn"],
        overrides={"knn.k": [1]},
        verbose=True,
    )
    printed = capsys.readouterr().out
    assert "k-NN (k=1)" in printed
    assert "hold the same images" in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"evaluators": ["knnn"]}, "evaluators"),
        ({"test": TEST.pixels}, "data: 60 of 60 test images have no label"),
        ({"train": [3]}, "train[0]: is a int"),
        ({"overrides": {"knn.kk": 3}}, "knn.kk: no such key"),
        ({"overrides": {"knn.k": [1000]}}, "knn.k: 1000 neighbours"),
        ({"overrides": {"data.name": "cifar10", "data.root": "x"}}, "data.name: the images"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: dict[str, Any], says: str, backbone_file: Path
) -> None:
    with pytest.raises(linear_eval.InputError) as caught:
        linear_eval.evaluate(
            linear_eval.load(backbone_file), **({"train": TRAIN, "test": TEST} | arguments)
        )
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_features_of_a_module_cannot_be_kept(tmp_path: Path) -> None:
    backbone = linear_eval.load(Net(), mean=(0, 0, 0), std=(1, 1, 1), size=32)
    with pytest.raises(linear_eval.InputError, match="features.folder: keeps features of"):
        linear_eval.evaluate(
            backbone, train=TRAIN, test=TEST, overrides={"features.folder": tmp_path}
        )

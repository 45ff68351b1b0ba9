"""Textures -> pretrain -> strip -> judge, through the commands, for every method and relation."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from linear_eval.backbones.backbone_file import load_backbone
from linear_eval.cli import main as linear_eval
from linear_eval.strict_config.reader import load_config
from ssl_bf.build import build_run
from ssl_bf.cli import main as ssl_bf
from ssl_bf.config import PretrainConfig
from ssl_bf.methods.method import Method
from ssl_bf.run.checkpoint import load_newest
from ssl_bf.run.training_state import restore
from tests.pairs import pair

METHODS = ("moco_v2", "moco_v3", "simsiam")
RELATIONS = ("none", "batchformer")
TITLES = {"none": "pretrained without relation", "batchformer": "pretrained with BatchFormer"}
STEPS = 6
JUDGE = ["data.train_images=128", "data.test_images=40", "linear_probe.epochs=2"]
METRICS = {
    *("knn/k=1/top1", "knn/k=5/top1", "knn/k=20/top1"),
    *("linear_probe/top1", "linear_probe/top5", "linear_probe/mean_per_class"),
    *("retrieval/recall@1", "retrieval/recall@5", "retrieval/recall@10"),
    *("retrieval/map", "retrieval/map@r", "retrieval/r_precision"),
}

Tiny = Callable[[str, str], list[str]]


@dataclass
class Runs:
    """Run directories, trained when they are first asked for."""

    root: Path
    tiny: Tiny

    def __call__(self, method: str, relation: str) -> Path:
        directory = self.root / f"{method}_{relation}"
        if not directory.exists():
            given = [*self.tiny(method, relation), f"run.directory={directory}"]
            with torch.enable_grad():  # the test that asks first may have switched it off
                assert ssl_bf(["pretrain", "quickstart", *given]) == 0
        return directory


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), tiny)


def lines_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def trained_method(directory: Path) -> Method:
    """The method of a finished run, as its last checkpoint holds it."""
    loaded = load_config(PretrainConfig, str(directory / "config.yaml"), [], packaged="pretrain")
    run = build_run(loaded.value)
    saved = load_newest(directory)
    assert saved.step == STEPS
    restore(run.method, run.optimizer, saved.tensors)
    return run.method


def some_images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("method", METHODS)
def test_a_run_leaves_what_is_promised(runs: Runs, method: str, relation: str) -> None:
    directory = runs(method, relation)
    names = {path.name for path in directory.iterdir()}
    wanted = {"config.yaml", "environment.json", "status.json", "metrics.jsonl"}
    assert names == wanted | {"backbone.safetensors", "checkpoints"}
    checkpoints = sorted((directory / "checkpoints").iterdir())
    assert [path.name for path in checkpoints] == ["step-000000003", "step-000000006"]
    files = {path.name for path in checkpoints[-1].iterdir()}
    assert files == {"tensors.safetensors", "state.json", "MANIFEST.json"}

    lines = lines_of(directory)
    assert [line["step"] for line in lines if "loss" in line] == [*range(1, STEPS + 1)]
    assert [line["step"] for line in lines if "monitor/knn_top1" in line] == [3, 6]
    numbers = [value for line in lines for key, value in line.items() if key != "timing"]
    assert all(math.isfinite(number) for number in numbers)
    streams = 1 if relation == "none" else 2
    measured = {key for key in lines[0] if key.startswith("feature_std/")}
    assert measured == {f"feature_std/stream_{number}" for number in range(streams)}
    assert json.loads((directory / "status.json").read_text())["state"] == "finished"


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("method", METHODS)
def test_the_backbone_is_judged_without_its_run(
    runs: Runs, method: str, relation: str, tmp_path: Path
) -> None:
    backbone = tmp_path / "backbone.safetensors"
    backbone.write_bytes((runs(method, relation) / "backbone.safetensors").read_bytes())
    assert linear_eval(["run", "quickstart", f"backbone={backbone}", *JUDGE]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["metrics"].keys() == METRICS
    assert all(0 <= value <= 100 for value in results["metrics"].values())
    assert results["backbone"]["architecture"] == "small_conv"
    assert results["data"]["train_images"] == 128
    assert results["data"]["test_images"] == 40
    _, info = load_backbone(backbone)
    assert info.provenance["title"] == TITLES[relation]
    assert (info.provenance["method"], info.provenance["step"]) == (method, STEPS)
    assert results["backbone"]["seed"] == info.provenance["seed"] == 0


def test_one_table_holds_the_baselines_and_both_arms(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without, related = (
        runs("moco_v2", relation) / "backbone.safetensors" for relation in RELATIONS
    )
    given = [f"backbone={related}", f"baselines=[pixels, random, {without}]", *JUDGE]
    output = tmp_path / "table.json"
    capsys.readouterr()
    assert linear_eval(["run", "quickstart", *given, "evaluators=[knn]", f"output={output}"]) == 0
    results = json.loads(output.read_text())
    assert list(results["baselines"]) == ["pixels", "random", TITLES["none"]]
    for metrics in (results["metrics"], *results["baselines"].values()):
        assert metrics.keys() == {key for key in METRICS if key.startswith("knn/")}
    printed = capsys.readouterr().out
    assert TITLES["none"] in printed
    assert TITLES["batchformer"] in printed


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_stripping_changes_no_bit_of_the_plain_stream(
    runs: Runs, method: str, relation: str
) -> None:
    directory = runs(method, relation)
    trained = trained_method(directory).eval()
    stripped, _ = load_backbone(directory / "backbone.safetensors")
    assert stripped.state_dict().keys() == trained.backbone.state_dict().keys()
    assert not any("relat" in name or "encoder" in name for name in stripped.state_dict())
    # The same memory format: convolutions round by it.
    stripped = stripped.to(memory_format=torch.channels_last)
    images = some_images(8)
    features = stripped(images)
    assert torch.equal(features, trained.backbone(images))
    trained(pair(images, images))
    assert trained.projections is not None
    assert len(trained.projections) == 1  # the plain stream alone
    assert torch.equal(trained.projections[0], trained.projector(features))


@torch.no_grad()
def test_a_stripped_backbone_sees_one_image_at_a_time(runs: Runs) -> None:
    stripped, _ = load_backbone(runs("moco_v2", "batchformer") / "backbone.safetensors")
    images, others = some_images(8), some_images(8, seed=1)
    others[3] = images[3]
    features, elsewhere = stripped(images), stripped(others)
    assert torch.equal(features[3], elsewhere[3])
    assert not torch.equal(features[2], elsewhere[2])


def test_the_run_directory_is_portable_and_can_be_exported(runs: Runs, tmp_path: Path) -> None:
    directory = runs("simsiam", "batchformer")
    output = tmp_path / "exported.safetensors"
    assert ssl_bf(["export", str(directory), "--output", str(output)]) == 0
    exported, info = load_backbone(output)
    own, own_info = load_backbone(directory / "backbone.safetensors")
    assert info == own_info
    for name, value in own.state_dict().items():
        assert torch.equal(exported.state_dict()[name], value)


def test_torchvision_takes_the_file_of_a_resnet18_but_for_its_classifier(
    tiny: Tiny, tmp_path: Path
) -> None:
    from safetensors.torch import load_file
    from torchvision.models import resnet18

    given = [*tiny("simsiam", "none"), "backbone.name=resnet18", "optimizer.name=sgd"]
    given += ["data.train_images=32", "epochs=1", "batch_size=16", "run.monitor_every=0"]
    assert ssl_bf(["pretrain", "quickstart", *given, f"run.directory={tmp_path / 'run'}"]) == 0
    file = tmp_path / "run" / "backbone.safetensors"

    model = resnet18()
    keys = model.load_state_dict(load_file(file), strict=False)
    assert set(keys.missing_keys) == {"fc.weight", "fc.bias"}
    assert keys.unexpected_keys == []
    model.fc = torch.nn.Identity()
    images = some_images(2)
    backbone, info = load_backbone(file)
    assert info.architecture == "resnet18"
    with torch.no_grad():
        assert torch.equal(model.eval()(images), backbone(images))

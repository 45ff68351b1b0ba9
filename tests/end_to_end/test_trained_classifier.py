"""Training on labels through the real commands: trained, stopped, resumed, judged, refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from linear_eval.backbones.backbone_file import load_backbone, save_backbone
from linear_eval.classifiers.classifier_file import (
    CLASSIFIER_FILE,
    TrainedClassifier,
    backbone_digest,
    load_classifier,
    save_classifier,
)
from linear_eval.cli import main as judge
from linear_eval.datasets.textures import TexturesConfig
from linear_eval.features.table import frozen
from linear_eval.strict_config.reader import parse_config
from ssl_bf.build import Run, build_run
from ssl_bf.cli import main as train
from ssl_bf.config import PretrainConfig
from ssl_bf.keyed_random import StepContext
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.classifier import Classifier
from ssl_bf.run.checkpoint import load_newest
from ssl_bf.run.signals import Asked, StopSignals
from ssl_bf.run.training_state import restore
from ssl_bf.train import prepare

SIDE, STEPS = 16, 6
CONFIG: dict[str, Any] = {
    "data": {"name": "image_folder", "root": "images", "holdout": 0},
    "views": {"recipe": "pad_crop", "size": SIDE, "auto_augment": True, "cutout": 4},
    "backbone": {"name": "small_conv"},
    "method": {
        "name": "classifier",
        **{"prior": 1.0, "layer_decay": 0.7, "probe_until": 0.4, "average_from": 0.6},
    },
    "relation": {"name": "batchformer", "context": 4, "insert_at": "backbone"},
    "optimizer": {"name": "sgd", "base_learning_rate": 0.5},
    "epochs": 3,
    "batch_size": 8,
    "precision": "float32",
    "speed": {"device": "cpu", "threads": 1},
    "run": {
        "directory": "run",
        **{"tensorboard": False, "monitor_every": 0, "save_every": "1epoch", "log_every": 1},
    },
}
JUDGE = "data.name=image_folder data.root=images data.holdout=0 images.resize=16 images.crop=16"


def save_images(root: Path) -> None:
    """Three classes of 10, 5 and 1 train images, of which 8 and 8 make a batch."""
    generator = np.random.default_rng(0)
    for part, counts in (("train", (10, 5, 1)), ("test", (3, 3, 3))):
        for name, count in zip(("ash", "elm", "oak"), counts, strict=True):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images and a config, which is entered."""
    save_images(tmp_path / "images")
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump(CONFIG))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pretrain(*overrides: str) -> int:
    return train(["pretrain", "labels.yaml", *overrides])


def judged(*overrides: str) -> int:
    given = ["backbone=run/backbone.safetensors", *JUDGE.split(), "evaluators=[classifier]"]
    return judge(["run", "image_folder", *given, *overrides])


def metrics(name: str = "run/results.json") -> dict[str, float]:
    found: dict[str, float] = json.loads(Path(name).read_text())["metrics"]
    return found


def saved_method() -> Classifier:
    """The method of the newest checkpoint, in evaluation."""
    run = build_run(parse_config(PretrainConfig, CONFIG).value)
    restore(run.method, run.optimizer, load_newest(Path("run")).tensors)
    run.loader.close()
    assert isinstance(run.method, Classifier)
    return run.method.eval()


def test_a_run_is_trained_stripped_and_judged_by_its_own_logits(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain() == 0
    assert "classifier: run/classifier.safetensors" in capsys.readouterr().err
    assert judged("frequency.many_above=9", "frequency.few_below=2") == 0
    assert "\nsupervised (classifier) with BatchFormer " in capsys.readouterr().out
    found = metrics()
    assert found.keys() == {
        f"classifier/{name}" for name in ("top1", "mean_per_class", "many", "medium", "few")
    }
    method, images, labels = saved_method(), [], []
    for label, name in enumerate(("ash", "elm", "oak")):
        for path in sorted(Path("images/test", name).iterdir()):
            images.append(torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1))
            labels.append(label)
    views, truth = parse_config(PretrainConfig, CONFIG).value.views, torch.tensor(labels)
    # an average is kept, so it is the average that must be judged
    assert method.averaged_backbone is not None
    assert method.averaged_fc is not None
    method.backbone.load_state_dict(method.averaged_backbone.average.state_dict())
    method.fc.load_state_dict(method.averaged_fc.average.state_dict())
    logits = own_logits(method, torch.stack(images), views.mean, views.std)
    right = (logits.argmax(dim=1) == truth).double()
    assert found["classifier/top1"] == pytest.approx(100 * float(right.mean()))
    for label, group in enumerate(("many", "medium", "few")):
        expected = 100 * float(right[truth == label].mean())
        assert found[f"classifier/{group}"] == pytest.approx(expected)
    network, _ = load_backbone(Path("run/backbone.safetensors"))
    with frozen(network, mean=views.mean, std=views.std, device=torch.device("cpu")) as embed:
        features = embed(torch.stack(images))
    again = load_classifier(Path("run", CLASSIFIER_FILE)).logits(features)
    torch.testing.assert_close(again, logits, rtol=0, atol=1e-5)


def test_an_export_is_the_average_that_was_handed_over(place: Path) -> None:
    assert pretrain() == 0
    handed_over = Path("run/backbone.safetensors").read_bytes()
    assert train(["export", "run"]) == 0
    assert Path("run/backbone.safetensors").read_bytes() == handed_over
    assert judged() == 0  # the classifier beside it still belongs to it


def own_logits(method: Classifier, images: Tensor, mean: Any, std: Any) -> Tensor:
    shift, scale = (torch.tensor(x).view(1, 3, 1, 1) for x in (mean, std))
    view = (images.float() / 255 - shift) / scale
    with torch.no_grad():
        method(Batch((view,), torch.arange(len(view)), torch.zeros(len(view)).long()))
    assert method.answered is not None
    return method.answered[0][0]


def test_a_run_that_was_stopped_equals_the_run_never_stopped(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pretrain() == 0
    Path("run").rename("whole")
    for stop in (1, 3, 4):  # while probing, at the end of it, while averaging
        asked = 0

        def agreed(self: StopSignals, *, save_is_due: bool, at: int = stop) -> Asked:
            nonlocal asked
            asked += 1
            return Asked(asked == at, save_is_due)

        with monkeypatch.context() as patch:
            patch.setattr(StopSignals, "agreed", agreed)
            assert pretrain("run.overwrite=true") == 75
        assert train(["resume", "run"]) == 0
        ours, theirs = load_newest(Path("run")), load_newest(Path("whole"))
        assert ours.step == theirs.step == STEPS
        assert ours.tensors.keys() == theirs.tensors.keys()
        for name, value in theirs.tensors.items():
            assert torch.equal(ours.tensors[name], value), name
        for name in ("backbone.safetensors", CLASSIFIER_FILE):
            # the config in the header of a backbone says run.overwrite
            if name == CLASSIFIER_FILE:
                assert Path("run", name).read_bytes() == Path("whole", name).read_bytes()
        digests = [
            backbone_digest(load_backbone(Path(each, "backbone.safetensors"))[0])
            for each in ("run", "whole")
        ]
        assert digests[0] == digests[1]


def test_labels_never_reach_a_self_supervised_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other labels of the same images change nothing, to the bit."""
    raw = CONFIG | {
        "data": {"name": "textures", "train_images": 32, "holdout": 0},
        "views": {"recipe": "moco_v2", "size": SIDE},
        "method": {"name": "moco_v2", "projection_dim": 8, "hidden_dim": 8, "queue_size": 32},
        "relation": {"name": "batchformer", "context": 4, "heads": 2},
    }
    states = []
    own = TexturesConfig.open_train
    for change in (lambda labels: labels, lambda labels: labels.flip(0) * 0 + 3):
        monkeypatch.setattr(TexturesConfig, "open_train", relabelled(own, change))
        run = build_run(parse_config(PretrainConfig, raw).value)
        assert run.loader.batch(0).labels is None
        for step in range(4):
            update(run, step)
        states.append({name: value.clone() for name, value in run.method.state_dict().items()})
        run.loader.close()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def relabelled(own: Any, change: Callable[[Tensor], Tensor]) -> Any:
    def open_train(self: TexturesConfig) -> Any:
        split = own(self)
        object.__setattr__(split, "labels", change(split.labels))
        return split

    return open_train


def update(run: Run, step: int) -> None:
    context, progress = prepare(run, step)
    assert isinstance(context, StepContext)
    run.optimizer.zero_grad()
    loss = run.method(run.loader.batch(step), context)
    loss.backward()
    run.optimizer.step()
    run.method.after_step(progress)


# Wrong input


def refused(capsys: pytest.CaptureFixture[str], status: int, *said: str) -> None:
    assert status == 2
    [line] = [each for each in capsys.readouterr().err.splitlines() if each.startswith("error: ")]
    for part in said:
        assert part in line


def test_images_without_labels_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flat = Path("flat")
    flat.mkdir()
    for number, path in enumerate(sorted(Path("images/train").rglob("*.png"))):
        path.rename(flat / f"{number}.png")
    refused(capsys, pretrain("data.root=flat"), "data: the images of image_folder have no labels")
    assert not Path("run").exists()


def test_one_class_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("elm", "oak"):
        for path in Path("images/train", name).iterdir():
            path.unlink()
        Path("images/train", name).rmdir()
    refused(capsys, pretrain(), "data: all 10 training images are of one class ('ash')")
    assert not Path("run").exists()


def test_what_cannot_be_judged_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No classifier; that of another backbone; that of other classes; a damaged one."""
    assert pretrain("epochs=1", "method.probe_until=0", "method.average_from=1") == 0
    beside, backbone = Path("run", CLASSIFIER_FILE), Path("run/backbone.safetensors")
    right = load_classifier(beside)
    capsys.readouterr()
    whole = beside.read_bytes()
    beside.unlink()
    refused(capsys, judged(), "evaluators: classifier needs run/classifier.safetensors")
    refused(
        capsys, judged("backbone=random", "architecture=small_conv", "output=r.json"), "no file"
    )
    beside.write_bytes(whole[:-5])
    refused(capsys, judged(), "run/classifier.safetensors: is truncated, damaged or no safetensors")
    beside.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(capsys, judged(), "is damaged or of another version (it is not what was written)")
    beside.write_bytes(backbone.read_bytes())
    refused(capsys, judged(), "its header does not say which classifier it holds")
    info = type(right.info)(("ash", "elm", "fir"), right.info.backbone_sha256)
    save_classifier(beside, TrainedClassifier(right.weight, right.bias, info))
    refused(capsys, judged(), "unknown to it: oak; not in the data: fir")
    info = type(right.info)(("elm", "ash", "oak"), right.info.backbone_sha256)
    save_classifier(beside, TrainedClassifier(right.weight, right.bias, info))
    refused(capsys, judged(), "they have another order")
    beside.write_bytes(whole)
    network, header = load_backbone(backbone)
    with torch.no_grad():
        next(network.parameters()).mul_(1.5)
    save_backbone(backbone, network, header)
    refused(capsys, judged(), "was trained with another backbone", "their digests differ")
    assert not Path("run/results.json").exists()


def test_a_baseline_without_a_classifier_has_no_number(place: Path) -> None:
    assert pretrain("epochs=1", "method.probe_until=0", "method.average_from=1") == 0
    assert judged("baselines=[pixels, random]") == 0
    results = json.loads(Path("run/results.json").read_text())
    assert results["baselines"] == {"pixels": {}, "random": {}}
    assert "classifier/top1" in results["metrics"]
    assert any("there is none beside this backbone" in note for note in results["notes"])


def test_an_overwritten_run_takes_its_classifier_away(place: Path) -> None:
    assert pretrain("epochs=1") == 0
    assert Path("run", CLASSIFIER_FILE).exists()
    simsiam = ["method.name=simsiam", "method.projection_dim=8", "method.hidden_dim=8"]
    more = ["views.recipe=moco_v2", "views.auto_augment=false", "views.cutout=0", "epochs=1"]
    assert pretrain("run.overwrite=true", *simsiam, *more) == 0
    assert not Path("run", CLASSIFIER_FILE).exists()


@pytest.mark.parametrize("key", ["method.probe_until=0.5", "method.average_from=0.5"])
def test_a_graph_of_one_step_refuses_a_method_that_changes(
    place: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from linear_eval.system.errors import InputError
    from ssl_bf.choices.setting_checks import check_captured

    raw = CONFIG | {"method": {"name": "classifier"}, "speed": {"cuda_graph": True}}
    config = parse_config(PretrainConfig, raw, [key]).value
    plain = parse_config(PretrainConfig, CONFIG | {"method": {"name": "classifier"}}, [key]).value
    run = build_run(plain)
    run.loader.close()
    with pytest.raises(InputError, match=rf"^speed\.cuda_graph: repeats one step, and {key[:8]}"):
        check_captured(config, run.method)

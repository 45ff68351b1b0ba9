"""Pretraining from Python: on one's own data set, of one's own module, resumed to the bit."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from linear_eval import load
from linear_eval.cli import main as linear_eval_main
from linear_eval.datasets import TexturesConfig
from linear_eval.system.errors import InputError, StoppedBySignal
from ssl_bf.cli import main
from ssl_bf.from_python import pretrain, resume
from ssl_bf.run.log import RunLog

SPLIT = TexturesConfig(train_images=40).open_train()
SMALL: dict[str, Any] = {
    "data.holdout": 0,
    "epochs": 2,
    "optimizer.warmup_epochs": 0,
    "batch_size": 16,
    "method.queue_size": 32,
    "relation.context": 8,
    "precision": "float32",
    "speed.threads": 1,
    "run.tensorboard": False,
    "run.save_every": "1epoch",
}


class Textures(Dataset[Any]):
    """Images and labels of the quickstart, as somebody's own data set."""

    def __init__(self, *, labelled: bool = True) -> None:
        self.labelled = labelled

    def __len__(self) -> int:
        return len(SPLIT)

    def __getitem__(self, index: int) -> Any:
        image = SPLIT.read(index)
        return (image, int(SPLIT.labels[index])) if self.labelled else image


class Net(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, stride=4)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.conv(images).relu().mean(dim=(2, 3))
        return features


def weights(directory: Path, module: nn.Module | None = None) -> dict[str, Tensor]:
    return load(directory / "backbone.safetensors", module=module).network.state_dict()


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first.keys() | second.keys())


def test_a_config_alone_trains_as_the_command_does(tmp_path: Path) -> None:
    small = {"data.train_images": 40, **SMALL}
    run = pretrain("quickstart", overrides={**small, "run.directory": tmp_path / "python"})
    texts = [f"{key}={value}" for key, value in small.items()]
    assert main(["pretrain", "quickstart", *texts, f"run.directory={tmp_path / 'command'}"]) == 0
    assert same(weights(run.directory), weights(tmp_path / "command"))
    assert run.metrics[-1]["step"] == 4
    assert run.backbone.width == 128


def test_a_data_set_of_ones_own_gives_the_same_views(tmp_path: Path) -> None:
    """The images are those of the config, so the losses of the first step are equal."""
    first = {**SMALL, "epochs": 1}
    ours = pretrain(
        "quickstart",
        overrides={**first, "data.train_images": 40, "run.directory": tmp_path / "ours"},
    )
    for number, images in enumerate((Textures(), Textures(labelled=False), SPLIT.pixels)):
        directory = tmp_path / str(number)
        given = pretrain(
            "quickstart", dataset=images, overrides={**first, "run.directory": directory}
        )
        assert given.metrics[0]["loss"] == ours.metrics[0]["loss"]
        assert same(weights(directory), weights(ours.directory))


def test_a_module_of_ones_own_is_copied_trained_and_read_back(tmp_path: Path) -> None:
    module = Net()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    run = pretrain(
        "quickstart",
        dataset=Textures(),
        backbone=module,
        overrides={**SMALL, "run.directory": tmp_path / "run"},
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert same(module.state_dict(), before)
    assert not same(run.backbone.network.state_dict(), before)
    assert run.backbone.info.architecture == "custom:Net"
    assert run.backbone.features(SPLIT).x.shape == (40, 8)


class Stopped(KeyboardInterrupt):
    pass


def test_resumed_it_is_the_run_that_was_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, whole, parts = Net(), tmp_path / "whole", tmp_path / "parts"
    pretrain(
        "quickstart",
        dataset=Textures(),
        backbone=module,
        overrides={**SMALL, "run.directory": whole},
    )
    watch = RunLog.watch

    def stop_at_2(log: RunLog, step: int, loss: Tensor) -> None:
        watch(log, step, loss)
        if step == 2:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(RunLog, "watch", stop_at_2)
    with pytest.raises(StoppedBySignal):
        pretrain(
            "quickstart",
            dataset=Textures(),
            backbone=module,
            overrides={**SMALL, "run.directory": parts},
        )
    monkeypatch.undo()
    assert main(["resume", str(parts)]) == 2
    assert "Python program" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"dataset: is not the one that .*parts began with"):
        resume(parts, dataset=Textures(labelled=False), backbone=module)
    with pytest.raises(InputError, match="backbone: .*trains 'custom:Net', and the module"):
        resume(parts, dataset=Textures(), backbone=nn.Flatten())
    with pytest.raises(InputError, match=r"data.name: given"):
        resume(parts, backbone=module)
    with pytest.raises(InputError, match=r"backbone.name: given"):
        resume(parts, dataset=Textures())
    run = resume(parts, dataset=Textures(), backbone=Net())
    assert same(weights(whole, module), run.backbone.network.state_dict())


def test_commands_say_in_one_line_what_to_do_with_such_a_backbone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = pretrain(
        "quickstart",
        dataset=Textures(),
        backbone=Net(),
        overrides={**SMALL, "epochs": 1, "run.directory": tmp_path / "run"},
    )
    capsys.readouterr()
    assert main(["export", str(run.directory)]) == 2
    assert "linear_eval.load(FILE, module=Net(...))" in capsys.readouterr().err
    file = run.directory / "backbone.safetensors"
    assert linear_eval_main(["run", "quickstart", f"backbone={file}"]) == 2
    said = capsys.readouterr().err
    assert "linear_eval.load(FILE, module=Net(...))" in said
    assert said.count("\n") == 1


def test_a_fingerprint_of_ones_own_is_taken(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    small = {**SMALL, "epochs": 1, "run.directory": directory}
    pretrain("quickstart", dataset=Textures(), fingerprint="version 1", overrides=small)
    resume(directory, dataset=Textures(), fingerprint="version 1")
    with pytest.raises(InputError, match="is not the one"):
        resume(directory, dataset=Textures(), fingerprint="version 2")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"overrides": {"epochz": 3}}, "epochz: no such key. Did you mean 'epochs'"),
        ({"fingerprint": "mine"}, "fingerprint: goes with dataset"),
        ({"dataset": 3}, "dataset: is a int"),
        ({"backbone": nn.Conv2d(3, 4, 1)}, "backbone: Conv2d makes"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        pretrain("quickstart", **arguments)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_resume_of_a_run_on_named_data_takes_no_data_set(tmp_path: Path) -> None:
    small = {**SMALL, "epochs": 1, "data.train_images": 40, "run.directory": tmp_path / "run"}
    run = pretrain("quickstart", overrides=small)
    with pytest.raises(InputError, match=r"data.name=textures; leave dataset out"):
        resume(run.directory, dataset=Textures())

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
import yaml

import linear_eval
from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import save_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.cli import main
from linear_eval.commands import COMMANDS
from linear_eval.evaluation.config import EvaluateConfig

ROOT = Path(linear_eval.__file__).parents[1]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "linear_eval", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "arguments",
    [["--help"], *([each.__name__.rpartition(".")[2], "--help"] for each in COMMANDS)],
)
def test_help_shows_an_example_and_does_not_wait_for_torch(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    probe = (
        "import sys; from linear_eval.cli import main\n"
        f"try: main({arguments})\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'yaml'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "example:\n  linear-eval " in done.stdout


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert linear_eval.__version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["rnu"],
        ["run"],
        ["run", "quickstart", "--bakcbone=x"],
        ["extract", "b", "d"],
        ["index", "b", "d"],
        ["index", "b", "d", "--output", "f", "--kind", "tree"],
        ["query", "i"],
        ["query", "i", "a.png", "--k", "many"],
        ["extract", "b", "d", "--output", "f.npy", "--splt", "test"],
        ["compare"],
        ["compare", "a", "--by", "image", "b"],
        ["compare", "a", "b", "--by", "pixel"],
        ["convert", "c.pth", "--architecture", "resnet18"],
        ["convert", "c.pth", "--output", "b", "--architecture", "resnet18", "late"],
        ["quality", "b"],
    ],
)
def test_a_malformed_command_line_exits_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert re.fullmatch(r"error: .*; see linear-eval( \w+)? --help\n", capsys.readouterr().err)


def test_what_is_to_be_converted_reaches_the_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    import linear_eval.checkpoints.convert

    calls: list[Any] = []
    monkeypatch.setattr(
        linear_eval.checkpoints.convert,
        "convert",
        lambda *given, **named: calls.append((given, named)),
    )
    line = "convert a.pth --architecture resnet18 --output b --image-size 32 --std 0.1,0.2,0.3"
    assert main(line.split()) == 0
    images = linear_eval.checkpoints.convert.ImageFacts(size=32, mean=None, std=(0.1, 0.2, 0.3))
    named = {"architecture": "resnet18", "output": Path("b"), "images": images, "overwrite": False}
    assert calls == [((Path("a.pth"),), named)]


def test_what_timm_says_of_its_weights_is_not_given_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import linear_eval.checkpoints.convert

    calls: list[Any] = []
    monkeypatch.setattr(
        linear_eval.checkpoints.convert,
        "convert_timm",
        lambda *given, **named: calls.append((given, named)),
    )
    assert main("convert timm:resnet18 --output b".split()) == 0
    assert calls == [(("timm:resnet18",), {"output": Path("b"), "overwrite": False})]
    assert main("convert timm:resnet18 --output b --image-size 64".split()) == 2
    assert "--image-size: is what timm says of timm:resnet18; leave" in capsys.readouterr().err
    assert main("convert a.pth --output b".split()) == 2
    assert "--architecture: missing, a checkpoint does not say" in capsys.readouterr().err
    assert main("extract timm:resnet18 folder --output b.npy".split()) == 2
    assert "make one: linear-eval convert timm:resnet18 --output FILE" in capsys.readouterr().err


def test_the_architectures_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["architectures", "resnet18*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines][:2] == ["resnet18", "resnet18_cifar"]


def test_a_key_is_explained_with_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("run quickstart knn.k=[3] --explain knn.k".split()) == 0
    assert "here: [3]\n  a list of whole numbers; default:" in capsys.readouterr().out
    assert main("run quickstart --explain knn.kk".split()) == 2
    assert "knn.kk: no such key. Did you mean 'knn.k'?" in capsys.readouterr().err


def test_wrong_input_is_one_line_and_exit_2() -> None:
    done = _run("run", "no_such_config", "backbone=pixels")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "no_such_config" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["run"], "CONFIG"),
        (["quality"], "BACKBONE, DATA"),
        (["query"], "INDEX, IMAGE"),
    ],
)
def test_only_what_must_be_given_is_called_required(
    arguments: list[str], missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert (
        f"are required: {missing}; see linear-eval {arguments[0]} --help\n"
        in capsys.readouterr().err
    )


def test_channels_that_are_no_three_numbers_are_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["convert", "c.pth", "--output", "b", "--architecture", "resnet18"]
    assert main([*arguments, "--mean", "0.5"]) == 2
    assert capsys.readouterr().err == (
        "error: --mean: '0.5', expected three numbers; give them as --mean 0.485,0.456,0.406\n"
    )


def test_the_whole_config_can_be_shown_without_what_must_be_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "cifar10", "--show", "knn.k=[7]"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["backbone"] == "???"
    assert shown["knn"]["k"] == [7]
    assert {field.name for field in fields(EvaluateConfig)} == shown.keys()
    assert main(["run", "cifar10", "--show", "knn.k=[0]"]) == 2


def test_the_help_of_run_names_every_packaged_config(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    shown = capsys.readouterr().out
    names = [path.stem for path in (ROOT / "configs/evaluate").glob("*.yaml")]
    assert len(names) > 5
    assert [name for name in names if name not in shown] == []


def test_a_backbone_file_is_exported_and_no_file_is_overwritten_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone, output = tmp_path / "b.safetensors", tmp_path / "resnet18.pth"
    info = BackboneInfo("resnet18", 512, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), {"title": "a test"})
    save_backbone(backbone, build_backbone("resnet18"), info)
    command = ["export", str(backbone), "--format", "torchvision", "--output", str(output)]
    assert main(command) == 0
    model = torchvision.models.resnet18()
    model.fc = torch.nn.Identity()
    model.load_state_dict(torch.load(output, weights_only=True))
    assert main(command) == 2
    assert "exists already; give another path or --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0

"""Tests of ssl_bf.cli: arguments, exit codes, and a start without torch."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

import linear_eval
from linear_eval.system.errors import InputError, StoppedBySignal
from ssl_bf.cli import main
from ssl_bf.commands import export, pretrain, resume
from ssl_bf.config import PretrainConfig
from ssl_bf.run.log import NonFiniteLoss

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("command", ["", "pretrain", "resume", "export", "pack"])
def test_help_shows_an_example_and_does_not_wait_for_torch(command: str) -> None:
    arguments = [*command.split(), "--help"]
    probe = (
        "import sys; from ssl_bf.cli import main\n"
        f"try: main({arguments})\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'yaml', 'PIL'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"example:\s+ssl-bf ", done.stdout)
    assert command in done.stdout


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert linear_eval.__version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["pretian"],
        ["pretrain"],
        ["pretrain", "quickstart", "--epochs", "3"],
        ["resume"],
        ["resume", "one", "--two"],
        ["export"],
        ["export", "runs/mine", "--output", "f", "--format", "pickle"],
    ],
)
def test_a_malformed_command_line_exits_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert re.fullmatch(r"error: .*; see ssl-bf( \w+)? --help\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["pretrain"], "CONFIG"),
        (["resume"], "directory"),
        (["pack"], "CONFIG|DATA_ROOT, OUTPUT"),
    ],
)
def test_only_what_must_be_given_is_called_required(
    arguments: list[str], missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert f"are required: {missing}; see ssl-bf {arguments[0]} --help\n" in capsys.readouterr().err


def test_arguments_reach_the_commands_as_typed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/mine").mkdir(parents=True)
    calls: list[tuple[object, ...]] = []
    for name, command in (("pretrain", pretrain), ("resume", resume), ("export_backbone", export)):
        monkeypatch.setattr(
            command,
            name,
            lambda *given, name=name, **options: calls.append((name, *given, *options.items())),
        )
    assert main(["pretrain", "quickstart", "epochs=3", "run.directory=a b"]) == 0
    assert main(["resume", "runs/mine", "speed.threads=1"]) == 0
    assert main(["export", "runs/mine", "--output", "out.safetensors"]) == 0
    assert main(["export", "runs/mine", "--output", "out", "--overwrite"]) == 0
    assert main(["export", "runs/mine", "--format", "onnx"]) == 0
    exported = ("export_backbone", Path("runs/mine"))
    assert calls == [
        ("pretrain", "quickstart", ["epochs=3", "run.directory=a b"]),
        ("resume", Path("runs/mine"), ["speed.threads=1"]),
        (*exported, Path("out.safetensors"), "safetensors", ("overwrite", False)),
        (*exported, Path("out"), "safetensors", ("overwrite", True)),
        (*exported, None, "onnx", ("overwrite", False)),
    ]


@pytest.mark.parametrize(
    ("outcome", "code", "printed"),
    [
        (InputError("data.root: missing, expected a folder; set it"), 2, "error: data.root: "),
        (StoppedBySignal("stopped at step 3"), 75, "stopped at step 3"),
        (NonFiniteLoss(7, float("nan"), Path("run")), 1, "error: loss: is nan at step 7"),
    ],
)
def test_the_exit_code_tells_how_it_ended_in_one_line(
    outcome: Exception,
    code: int,
    printed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def end(directory: Path, overrides: list[str]) -> None:
        raise outcome

    monkeypatch.setattr(resume, "resume", end)
    assert main(["resume", str(tmp_path)]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(printed)
    assert said.err.count("\n") == 1


def test_a_failure_of_ours_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(directory: Path, overrides: list[str]) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(resume, "resume", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["resume", str(tmp_path)])


def test_the_whole_config_can_be_shown_without_what_must_be_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["pretrain", "moco_v3_cifar10", "data.name=image_folder", "--show"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["data"]["on_bad_image"] == "error"
    assert {field.name for field in fields(PretrainConfig)} == shown.keys()


def test_the_help_of_pretrain_names_packaged_configs_that_exist(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["pretrain", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    said = re.search(r"METHOD (\S+), (\S+) or (\S+) and DATA (\S+), (\S+), (\S+) or (\w+)", shown)
    assert said is not None
    for method in said.groups()[:3]:
        for data in said.groups()[3:]:
            for name in (f"{method}_{data}", f"{method}_batchformer_{data}"):
                assert (ROOT / "configs/pretrain" / f"{name}.yaml").is_file(), name

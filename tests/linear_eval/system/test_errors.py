"""Run: pytest tests/linear_eval/test_errors.py."""

import builtins
import errno
import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from linear_eval.system.errors import (
    ConfigError,
    InputError,
    RunFailed,
    StoppedBySignal,
    require_matching_torch,
    run_command,
)

ROOT = Path(__file__).parents[3]


def ended(command: Callable[[], None]) -> int:
    return run_command(command, if_interrupted="all is kept; go on")


def raises(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


def test_a_command_that_returns_is_done() -> None:
    assert ended(lambda: None) == 0


@pytest.mark.parametrize("error_class", [InputError, ConfigError])
def test_wrong_input_is_one_line_and_exit_code_2(
    error_class: type[InputError], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(raises(error_class("a\nb\x1b[2J: no such\tfile"))) == 2
    assert capsys.readouterr() == ("", "error: a b\\x1b[2J: no such\\tfile\n")


def test_a_saved_stop_is_exit_code_75(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(raises(StoppedBySignal("stopped at step 7"))) == 75
    assert capsys.readouterr().err == "stopped at step 7\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(StoppedBySignal("stopped"), 75, "stopped\n"), (RunFailed("nan"), 1, "error: nan\n")],
)
@pytest.mark.parametrize("rank", [0, 1])
def test_one_process_of_torchruns_says_that_they_ended(
    rank: int,
    error: Exception,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RANK", str(rank))
    assert ended(raises(error)) == code
    assert capsys.readouterr().err == said  # it is alone
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert ended(raises(error)) == code
    assert capsys.readouterr().err == ("" if rank else said)


def test_a_disk_that_fails_and_a_name_that_is_too_long_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(raises(OSError(errno.EIO, "Input/output error", "images/a\nb.png"))) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: Input/output error: images/a b.png; give a name that fits, free")

    def open_it() -> None:
        (tmp_path / ("x" * 5000)).write_bytes(b"")

    assert ended(open_it) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: File name too long: /")
    assert len(said) < 600
    with pytest.raises(PermissionError):
        ended(raises(PermissionError(errno.EACCES, "denied", "x")))


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), BrokenPipeError("a worker")])
def test_any_other_failure_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        ended(raises(error))
    assert caught.value is error


def test_a_reader_that_goes_away_is_met_quietly() -> None:
    code = (
        "import sys; from linear_eval.system.errors import run_command\n"
        "def command():\n"
        "    for _ in range(100_000): print('x' * 80)\n"
        "sys.exit(run_command(command, if_interrupted=''))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("operator torchvision::nms does not exist"),
        ImportError("libcudart.so.13: cannot open shared object file"),
        AttributeError("partially initialized module 'torchvision' has no attribute 'extension'"),
    ],
)
def test_a_broken_pair_of_torch_and_torchvision_is_one_line_with_both_versions(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    imports = builtins.__import__

    def broken(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "torchvision":
            raise error
        return imports(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", broken)
    monkeypatch.setattr(importlib.metadata, "version", {"torch": "2.13", "torchvision": "0.9"}.get)
    assert ended(require_matching_torch) == 2
    assert capsys.readouterr().err == (
        "error: torch 2.13 and torchvision 0.9 are different builds; "
        f"reinstall both from one index ({error})\n"
    )


def test_a_missing_torchvision_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def version(package: str) -> str:
        if package == "torchvision":
            raise importlib.metadata.PackageNotFoundError(package)
        return "2.15"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert ended(require_matching_torch) == 2
    assert capsys.readouterr().err.startswith("error: torchvision: not installed; install torch")


def test_a_missing_torch_is_named_and_no_other_missing_module(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ended(raises(ModuleNotFoundError("No module named 'torch'", name="torch"))) == 2
    assert capsys.readouterr().err.startswith("error: torch: not installed; install torch")
    with pytest.raises(ModuleNotFoundError):
        ended(raises(ModuleNotFoundError("No module named 'torchx'", name="torchx")))


def test_an_interruption_is_one_line_that_says_what_there_is_and_exit_130(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ended(raises(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted: all is kept; go on\n"

"""The set-up on a machine that lacks something. Run: pytest tests/test_makefile.py."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        ["make", *arguments],
        cwd=ROOT,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def stand_in(folder: Path, body: str) -> Path:
    """Write a shell script that is taken for a Python interpreter."""
    script = folder / "python"
    script.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    script.chmod(0o755)
    return script


@pytest.mark.parametrize("seed", ["", "-1", "1.5", "one", "1 2", "1e3", '""'])
def test_a_seed_that_is_no_whole_number_is_refused_in_one_line(seed: str) -> None:
    result = make("quickstart", SEED=seed)
    assert result.returncode != 0
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert f"SEED={seed}: expected a whole number >= 0" in result.stderr


def test_the_quickstart_passes_its_seed_to_the_data_and_the_runs() -> None:
    lines = make("-n", "quickstart", SEED="12").stdout.replace("\\\n", " ").splitlines()
    commands = [line for line in lines if "/ssl-bf" in line or "/linear-eval" in line]
    commands = [line for line in commands if " quickstart" in line]
    assert len(commands) == 3
    assert all(command.endswith(" seed=12 data.seed=12") for command in commands)
    assert ["relation.name=none" in command for command in commands] == [True, False, False]
    assert lines[-1].endswith(" --output runs/quickstart/report.html")
    # the arms differ by the relation alone
    assert " speed.like=runs/quickstart/without_relation " in commands[1]


@pytest.mark.parametrize(("target", "device"), [("bench", False), ("bench-gpu", True)])
def test_the_benchmarks_are_all_run(target: str, device: bool) -> None:
    sources = {p.stem: p.read_text() for p in (ROOT / "bench").glob("*.py")}
    modules = {name for name, source in sources.items() if "\ndef main(" in source}
    modules -= {"check_gpu"}  # which runs them, and takes other options
    assert {"loop", "startup", "knn"} <= modules
    for_gpus = {name for name in modules if "lacks_gpu(" in sources[name]}
    assert "kornia_views" in for_gpus
    left_out = set() if device else for_gpus
    [command] = [line for line in make("-n", target).stdout.splitlines() if "-m bench." in line]
    assert set(command.split(" in ")[1].split(";")[0].split()) == modules - left_out
    assert ("--device cuda" in command) == device


def test_the_help_names_every_command() -> None:
    lines = make("help").stdout
    for target in "quickstart test check bench bench-gpu bench-judge check-gpu venv".split():
        assert f"make {target}" in lines
    assert "WHEELS=folder" in lines


def test_a_gpu_is_checked_by_the_interpreter_that_is_named(tmp_path: Path) -> None:
    own = stand_in(tmp_path, f'echo "$*" >> "{tmp_path}/calls"')
    given = (f"PYTHON={own}", "WHEELS=/a folder", "DATA=/d", "CHECK_ARGS=--tiny --only judge")
    assert make("check-gpu", *given).returncode == 0
    said = "-m bench.check_gpu --wheels /a folder --data /d --tiny --only judge"
    assert calls(tmp_path) == [said]  # and nothing is installed
    assert make("check-gpu", f"PYTHON={own}").returncode == 0
    assert calls(tmp_path) == ["-m bench.check_gpu"]


def test_an_interpreter_without_torch_checks_no_gpu(tmp_path: Path) -> None:
    bare = stand_in(tmp_path, "exit 1")
    result = make("check-gpu", f"PYTHON={bare}")
    assert result.returncode != 0
    assert f"{bare}: cannot import torch and torchvision" in result.stderr.splitlines()[0]
    assert "bench.check_gpu" not in result.stdout


def test_a_missing_python_is_named_in_one_line(tmp_path: Path) -> None:
    result = make("venv", "PYTHON=python9", f"VENV={tmp_path / 'venv'}")
    assert result.returncode != 0
    assert result.stderr.count("\n") == 1
    assert "python9: not found, expected python3 >= 3.11" in result.stderr


def test_an_old_python_is_named_in_one_line(tmp_path: Path) -> None:
    old = stand_in(tmp_path, 'case "$1" in -V) echo "Python 3.9.2";; *) exit 1;; esac')
    result = make("venv", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}")
    assert result.stderr.count("\n") == 1
    assert "is Python 3.9.2, expected >= 3.11" in result.stderr


def test_a_missing_venv_module_is_named_in_one_line(tmp_path: Path) -> None:
    bare = stand_in(tmp_path, 'case "$2" in *ensurepip*) exit 1;; esac')
    result = make("venv", f"PYTHON={bare}", f"VENV={tmp_path / 'venv'}")
    assert result.stderr.count("\n") == 1
    assert "python3-venv: missing" in result.stderr
    assert "sudo apt install python3-venv" in result.stderr


@pytest.fixture
def fake_python(tmp_path: Path) -> Path:
    """An interpreter that notes how it is called, and whose environments hold it as `python`."""
    return stand_in(
        tmp_path,
        f'echo "$*" >> "{tmp_path}/calls"\n'
        'case "$*" in\n'
        '  "-m venv"*) for last; do :; done; mkdir -p "$last/bin"; cp "$0" "$last/bin/python";;\n'
        '  "-m pip install -q uv") exit 1;;\n'
        f'  "-m pip install"*) test ! -e "{tmp_path}/offline";;\n'
        "esac",
    )


def calls(folder: Path) -> list[str]:
    text = (folder / "calls").read_text(encoding="utf-8")
    (folder / "calls").unlink()
    return [line for line in text.splitlines() if line.startswith("-m")]


def test_the_environment_is_made_once_and_again_after_an_interruption(
    fake_python: Path, tmp_path: Path
) -> None:
    venv = tmp_path / "venv"
    arguments = ("venv", f"PYTHON={fake_python}", f"VENV={venv}")
    (tmp_path / "offline").touch()
    assert make(*arguments).returncode != 0
    assert calls(tmp_path)[0] == f"-m venv {venv}"
    (tmp_path / "offline").unlink()
    assert make(*arguments, "REQUIRE=torchvision>=0.29.1").returncode == 0
    assert calls(tmp_path) == [
        f"-m venv --clear {venv}",
        "-m pip install -q uv",
        "-m pip install -q -e .[dev] torchvision>=0.29.1",
    ]
    assert make(*arguments).returncode == 0
    assert not (tmp_path / "calls").exists()
    assert [path.name[:7] for path in venv.iterdir() if path.is_file()] == ["ssl-bf-"]


def test_an_environment_of_ones_own_is_not_emptied(fake_python: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    venv.mkdir()
    assert make("venv", f"PYTHON={fake_python}", f"VENV={venv}").returncode == 0
    assert "--clear" not in " ".join(calls(tmp_path))


def test_an_environment_made_from_other_settings_is_made_anew(
    fake_python: Path, tmp_path: Path
) -> None:
    venv = tmp_path / "venv"
    venv.mkdir()
    (venv / "ssl-bf-0123456789abcdef").touch()
    assert make("venv", f"PYTHON={fake_python}", f"VENV={venv}").returncode == 0
    assert calls(tmp_path)[0] == f"-m venv --clear {venv}"

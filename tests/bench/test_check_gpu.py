"""The one command that checks a GPU: its parts, its file, its exit code."""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import check_gpu, parts
from bench.parts import Finding, Part, Result

ROOT = Path(__file__).parents[2]


def tiny(file: Path, *more: str) -> int:
    return check_gpu.main(["--tiny", "--output", str(file), *more])


def statuses(file: Path) -> dict[str, str]:
    rows = json.loads(file.read_text())["parts"]
    return {row["name"]: row["status"] for row in rows}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the parts that are started; none of them is run."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    names: list[str] = []

    def start(part: Part, seconds: float, command: list[str]) -> Result:
        names.append(part.name)
        assert command[command.index("--part") + 1] == part.name
        assert "--tiny" in command
        status = "failed" if part.name == "judge" else "ok"
        return Result(part.name, status, message="other neighbours" if status == "failed" else "")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(parts, "in_own_process", start)
    monkeypatch.setattr(parts, "find_spec", lambda name: None)  # a bare machine
    return names


def test_every_benchmark_is_a_part() -> None:
    sources = {path.stem: path.read_text() for path in (ROOT / "bench").glob("*.py")}
    modules = {name for name, text in sources.items() if "\ndef main(argv" in text} - {"check_gpu"}
    named = {part.name.removeprefix("bench.") for part in check_gpu.PARTS if "bench." in part.name}
    assert named == modules
    assert len({part.name for part in check_gpu.PARTS}) == len(check_gpu.PARTS)


def test_correctness_fits_into_the_budget_and_comes_first() -> None:
    first = [part.is_correctness for part in check_gpu.PARTS[1:]]
    assert first == sorted(first, reverse=True)
    checks = [part.seconds for part in check_gpu.PARTS if part.is_correctness]
    assert check_gpu.PARTS[0].seconds + sum(checks) <= 60 * check_gpu.MINUTES


def test_a_correctness_part_that_fails_is_exit_code_1_and_all_others_are_run(
    ran: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "check.json"
    assert tiny(file) == 1
    found = statuses(file)
    assert list(found) == [part.name for part in check_gpu.PARTS]
    assert found["judge"] == "failed"
    assert {name for name, status in found.items() if status == "left out"} == (
        {"cuda_graph"} | {part.name for part in check_gpu.PARTS if part.needs or part.needs_on_cpu}
    )
    assert set(ran) == {name for name, status in found.items() if status != "left out"}
    out = capsys.readouterr().out
    assert "other neighbours" in out
    assert "needs lightly: give wheels of it by --wheels FOLDER" in out


def test_without_that_part_all_is_well(ran: list[str], tmp_path: Path) -> None:
    file = tmp_path / "check.json"
    assert tiny(file, "--only", "resume", "--only", "bench.loop") == 0
    assert statuses(file) == {"resume": "ok", "bench.loop": "ok"}
    assert ran == ["resume", "bench.loop"]


def test_without_time_nothing_is_run(ran: list[str], tmp_path: Path) -> None:
    file = tmp_path / "check.json"
    assert tiny(file, "--minutes", "0.5") == 1
    assert set(statuses(file).values()) == {"not run", "left out"}
    assert ran == []


def test_a_part_that_is_unknown_is_named(
    ran: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tiny(tmp_path / "check.json", "--only", "resume", "--only", "nothing") == 2
    assert "nothing" in capsys.readouterr().out
    assert ran == []


def test_without_a_gpu_only_the_tiny_form_runs(
    ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_gpu.main([]) == 2
    assert "no GPU is visible" in capsys.readouterr().out


def test_correctness_is_asked_of_whole_float32() -> None:
    kinds: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn]

    def finding(options: Namespace) -> Finding:
        return Finding({"tf32": [kind.allow_tf32 for kind in kinds]})

    before = [kind.allow_tf32 for kind in kinds]
    try:
        for kind in kinds:
            kind.allow_tf32 = True
        kept = check_gpu.find(Part("bench", finding, 1), Namespace())
        assert kept.figures == {"tf32": [True, True]}
        whole = check_gpu.find(Part("correct", finding, 1, is_correctness=True), Namespace())
        assert whole.figures == {"tf32": [False, False]}
    finally:
        for kind, value in zip(kinds, before, strict=True):
            kind.allow_tf32 = value


def test_a_benchmark_that_is_not_equivalent_is_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows: list[dict[str, Any]] = [
        {"benchmark": "x", "variant": "ours", "wall_seconds": 1.0, "wrong": "", "threads": 2},
        {"benchmark": "x", "variant": "peer", "wall_seconds": 2.0, "wrong": "loss 3 and 4"},
    ]
    asked: list[list[str]] = []

    def ran(given: list[str]) -> list[dict[str, Any]]:
        asked.append(given)
        return rows

    monkeypatch.setattr("bench.loop.main", ran)
    options = Namespace(device="cuda", tiny=True, data="/d", output=tmp_path / "check.json")
    found = check_gpu.benchmark("loop", options)
    assert found.wrong == "peer: loss 3 and 4"
    assert found.figures == {"x, ours": {"wall_seconds": 1.0}, "x, peer": {"wall_seconds": 2.0}}
    expected = f"--rounds 1 --device cuda --output {tmp_path} --quick --data /d"
    assert asked == [expected.split()]


@pytest.mark.slow
def test_the_tiny_form_runs_on_a_cpu(tmp_path: Path) -> None:
    file = tmp_path / "check.json"
    names = ["machine", "simsiam steps", "process group", "judge", "cuda_graph", "bench.overhead"]
    command = [sys.executable, "-m", "bench.check_gpu", "--tiny", "--output", str(file)]
    command += [word for name in names for word in ("--only", name)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = statuses(file)
    assert set(found) == set(names)
    if not torch.cuda.is_available():
        assert found.pop("cuda_graph") == "left out"
    assert set(found.values()) == {"ok"}
    assert (tmp_path / "overhead.jsonl").exists()

"""`ssl-bf ablate` as its user meets it: real processes, killed and stopped at any time."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from linear_eval.system.atomic_file import file_sha256
from ssl_bf.cli import main
from tests.ssl_bf.study.conftest import JUDGE, STUDY
from tests.tiny_run import TINY

ROOT = Path(__file__).parents[2]
EPOCHS = 300  # some seconds of steps


def command(*words: str) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = main(["ablate", *words])
        except SystemExit as end:
            code = int(end.code or 0)
    return code, said.getvalue()


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny = {**TINY, "epochs": EPOCHS, "speed": {"device": "cpu", "threads": 1}}
    tiny["run"] = {**TINY["run"], "save_every": "10epochs"}
    for name, content in (("study", {**STUDY, "jobs": 2}), ("tiny", tiny), ("judge", JUDGE)):
        Path(f"{name}.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


Start = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def start(study: Path) -> Iterator[Start]:
    """Begin the study, or go on with it; whatever is left at the end is killed."""
    begun: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "ssl_bf", "ablate", "study.yaml"],
            cwd=study,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(5000):
        if is_so():
            return
        time.sleep(0.05)
    raise AssertionError("waited for minutes")


@pytest.mark.slow
@pytest.mark.dist
@pytest.mark.timeout(1200)
def test_killed_and_stopped_it_goes_on_and_every_run_is_as_if_nothing_had_been(
    start: Start,
) -> None:
    def checkpoints(seed: int) -> int:
        return len([*Path(f"study/runs/copy/seed-{seed}").glob("checkpoints/step-*/MANIFEST.json")])

    first = start()
    wait_until(lambda: checkpoints(0) > 0)
    first.kill()
    first.wait(60)
    assert "2 missing" in command("study.yaml", "--status")[1]

    again = start()  # at once: what was left behind may still save
    wait_until(lambda: Path("study/runs/copy/seed-1/config.yaml").exists())
    code, said = command("study.yaml")
    assert (code, "another ablate works in study" in said) == (2, True)
    status = command("study.yaml", "--status")[1]
    assert "running" in status
    assert "of training left" in status
    wait_until(lambda: checkpoints(1) > 0)
    again.send_signal(signal.SIGINT)
    said = again.communicate(timeout=300)[0]
    assert (again.returncode, "the same command goes on" in said) == (75, True)
    assert "train copy seed 0: goes on" in said

    last = start()
    said = last.communicate(timeout=600)[0]
    assert last.returncode == 0, said
    assert "train copy seed 0: " not in said  # it was done
    assert len(json.loads(Path("study/study.json").read_text())["runs"]) == 4
    assert "4 judged; all trained" in command("study.yaml", "--status")[1]

    overrides = ["run.directory=alone", "relation.name=copy", "seed=1", "data.seed=1"]
    assert main(["pretrain", "tiny.yaml", *overrides]) == 0
    alone, of_study = (
        file_sha256(Path(d) / "checkpoints" / f"step-{EPOCHS:09d}" / "tensors.safetensors")
        for d in ("alone", "study/runs/copy/seed-1")
    )
    assert alone == of_study


def test_a_wrong_study_is_one_line_and_leaves_nothing_behind(study: Path) -> None:
    before = {*study.iterdir()}
    for words, said in (
        (["seeds=[1]"], "error: seeds: [1], expected two or more"),
        (["judge.metrics=[knn/k=6/top1]"], "error: judge.metrics: the judge makes no knn/k=6/top1"),
        (["relation.nam=x"], "error: arms: none: relation.nam: no such key"),
        (["--launch", "slurm"], "error: "),
        (["--pilot", "--status"], "error: argument --status: not allowed with"),
    ):
        code, printed = command("study.yaml", *words)
        assert code == 2, printed
        assert printed.startswith(said)
        assert len(printed.splitlines()) == 1
    assert {*study.iterdir()} == before


def test_what_a_study_holds_can_be_asked(study: Path) -> None:
    assert "base_overrides: [epochs=3]" in command("study.yaml", "--show", "epochs=3")[1]
    assert "steps" in command("study.yaml", "--explain", "budget.rule")[1]
    code, printed = command("study.yaml", "--status")
    assert (code, printed.splitlines()[-1].startswith("4 missing; no run has made")) == (0, True)
    code, printed = command("study.yaml", "--status", "epohcs=2")
    assert (code, "epohcs: no such key" in printed) == (2, True)
    assert not Path("study").exists()

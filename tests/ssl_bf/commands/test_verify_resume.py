"""Tests of ssl_bf.commands.verify_resume: it kills, and what does not come back is seen."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import ssl_bf.run.training_state
from linear_eval.system.errors import InputError, RunFailed
from ssl_bf.cli import main
from ssl_bf.commands.verify_resume import verify_resume, verify_walk
from tests.tiny_run import TINY

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
MORE = ["epochs=6", "run.save_every=1step", "method.name=simsiam", "optimizer.momentum=0.9"]


@pytest.fixture
def folder(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    # else torch's own cache lies among what a trial leaves, when this test is the first to use it
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    return tmp_path


def test_a_run_that_comes_back_whole_is_a_table_and_leaves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify-resume", "tiny.yaml", *MORE, "--kills", "2"]) == 0
    rows = dict(line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:])
    assert rows["kills"] == "2"
    assert rows["runs that differ"] == "0"
    assert {path.name for path in folder.iterdir()} == {"tiny.yaml", "temporary"}
    assert list((folder / "temporary").iterdir()) == []


@pytest.mark.slow
def test_what_does_not_come_back_is_named_and_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = ssl_bf.run.training_state.restore

    def forgetful(method: Any, optimizer: Any, tensors: Any) -> None:
        restore(method, optimizer, tensors)
        optimizer.state.clear()  # the momentum

    monkeypatch.setattr(ssl_bf.run.training_state, "restore", forgetful)
    with pytest.raises(RunFailed, match=r"is not the one never killed: .*; both runs are kept in"):
        verify_resume("tiny.yaml", MORE, kills=12, seed=1)
    assert list((folder / "temporary").iterdir()) != []
    shutil.rmtree(folder / "temporary")


def test_wrong_input_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="--kills: must be >= 1"):
        verify_resume("tiny.yaml", [], kills=0, seed=0)
    assert main(["verify-resume", "tiny.yaml", "epochs=0"]) in (1, 2)
    assert "epochs: must be >= 1" in capsys.readouterr().err


def test_a_walk_over_numbers_of_processes_ends_where_one_process_does(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                "verify-resume",
                "tiny.yaml",
                *MORE[2:],
                "epochs=12",
                "precision=bf16",
                "--walk",
                "1,2",
            ]
        )
        == 0
    )
    rows = dict(line.rsplit("  ", 1) for line in capsys.readouterr().out.splitlines()[1:])
    found = {name.strip(): value.strip() for name, value in rows.items()}
    assert found["processes of each leg"] == "1 2"
    assert found["tensors, logged numbers and bytes that differ"] == "0"
    assert list((folder / "temporary").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        ["method.name=moco_v2", "method.queue_size=64", "method.symmetric=true"],
        ["method.name=moco_v3"],
        ["method.name=simsiam", "optimizer.momentum=0.9"],
    ],
    ids=["moco_v2", "moco_v3", "simsiam"],
)
@pytest.mark.parametrize("context", [4, "local", "global"])
def test_a_walk_over_one_two_and_four_processes(
    folder: Path, method: list[str], context: object, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [f"relation.context={context}", "relation.pairs=all", "epochs=20"]
    assert main(["verify-resume", "tiny.yaml", *method, *more, "--walk", "1,2,4,1"]) == 0
    assert "1 2 4 1" in capsys.readouterr().out


@pytest.mark.slow
def test_a_walk_that_adds_in_no_order_is_seen(folder: Path) -> None:
    more = [*MORE[2:], "epochs=20", "speed.reduction=fast"]
    with pytest.raises(RunFailed, match="after 2 legs the run is not the one on one process: "):
        verify_walk("tiny.yaml", more, sizes=[1, 4])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--walk", "1"], "--walk: '1', expected two or more numbers of processes"),
        (["--walk", "1,two"], "--walk: '1,two', expected two or more numbers"),
        (["--walk", "0,2"], "--walk: '0,2', expected two or more numbers"),
        (["--walk", "1,2", "--kills", "3"], "--walk: comes instead of --kills"),
        (["shards=3", "--walk", "1,2"], "do not all divide 3 shards; set shards=2, or leave it"),
    ],
)
def test_a_walk_that_cannot_be_is_one_line(
    folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify-resume", "tiny.yaml", *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line

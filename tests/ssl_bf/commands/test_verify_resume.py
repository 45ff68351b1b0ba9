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
from ssl_bf.commands.verify_resume import verify_resume
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

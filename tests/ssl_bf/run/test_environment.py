"""Tests of ssl_bf.run.environment, in real git repositories."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path

import pytest
import torch

from ssl_bf.run.environment import (
    changed_keys,
    describe_environment,
    git_commit,
)


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_description_is_json_and_names_what_computes() -> None:
    found = describe_environment()
    assert json.loads(json.dumps(found)) == found
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert found["cpu"]["torch_threads"] == torch.get_num_threads()


def test_the_description_holds_no_path_and_no_host_name() -> None:
    text = json.dumps(describe_environment())
    host = platform.node()
    for place in (Path.cwd(), Path.home(), Path(torch.__file__).parents[1]):
        assert place == Path("/") or str(place) not in text
    assert not host or f'"{host}"' not in text


def test_the_commit_is_that_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert git_commit(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert git_commit(tmp_path) is None
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "untracked").write_text("")
    assert git_commit(tmp_path) == commit
    (tmp_path / "file").write_text("2")
    assert git_commit(tmp_path) == f"{commit}+changes"


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(tmp_path) is None


def test_changes_are_listed_by_dotted_key() -> None:
    before = {"versions": {"torch": "2.14", "numpy": "2"}, "gpus": [], "old": 1}
    now = {"versions": {"torch": "2.15", "numpy": "2"}, "gpus": ["H200"], "new": 2}
    assert changed_keys(before, now) == [
        "gpus: [] -> ['H200']",
        "new: None -> 2",
        "old: 1 -> None",
        "versions.torch: 2.14 -> 2.15",
    ]
    assert changed_keys(before, before) == []

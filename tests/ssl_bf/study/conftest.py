"""A study of seconds, whose runs work in this process."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

import linear_eval.cli
import ssl_bf.cli
from ssl_bf.study.ablate import ablate
from ssl_bf.study.arms import Arm
from ssl_bf.study.study_file import StudyConfig, load_study
from ssl_bf.study.tasks import Task
from tests.tiny_run import TINY

STUDY: dict[str, Any] = {
    "base": "tiny.yaml",
    "arms": [
        {"name": "none", "overrides": ["relation.name=none"]},
        {"name": "copy", "overrides": ["relation.name=copy"]},
    ],
    "seeds": [0, 1],
    "judge": {"config": "judge.yaml", "metrics": ["knn/k=5/top1"]},
    "contrasts": [{"arm": "copy", "against": "none", "margin": 1.0}],
    "directory": "study",
}
JUDGE = {
    "data": {"name": "textures", "train_images": 40, "test_images": 20},
    "evaluators": ["knn"],
    "knn": {"k": [5]},
}


@dataclass(frozen=True)
class Ended:
    code: int

    def poll(self) -> int:
        return self.code

    def stop(self) -> None:
        pass


@dataclass
class InThisProcess:
    """A place where starting a task does it; keeps the names, and may fail some."""

    started: list[str] = field(default_factory=list)
    fail: Callable[[Task], int | None] = lambda task: None

    def check(self, study: StudyConfig, arms: Sequence[Arm]) -> None:
        pass

    def threads(self, study: StudyConfig) -> int:
        return 1

    def launcher(self, study: StudyConfig, threads: int) -> InThisProcess:
        return self

    def start(self, task: Task, slot: int) -> Ended:
        self.started.append(task.name)
        code = self.fail(task)
        if code is not None:
            return Ended(code)
        _, _, package, *words = task.command()
        main = {"ssl_bf": ssl_bf.cli.main, "linear_eval": linear_eval.cli.main}[package]
        task.run.log.parent.mkdir(parents=True, exist_ok=True)
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main(words)
        with task.run.log.open("a") as log:
            log.write(said.getvalue())
        return Ended(code)


Ablate = Callable[..., list[str]]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study and its configs, in the current folder."""
    monkeypatch.chdir(tmp_path)
    tiny = {**TINY, "epochs": 1, "speed": {"device": "cpu", "threads": 1}}
    for name, content in (("study", STUDY), ("tiny", tiny), ("judge", JUDGE)):
        Path(f"{name}.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


@pytest.fixture
def go(files: Path) -> Ablate:
    """Do the study with overrides; what was started."""

    def run(*overrides: str, pilot: bool = False, **options: Any) -> list[str]:
        place = InThisProcess(**options)
        ablate(load_study("study.yaml", overrides).value, place, pilot=pilot)
        return place.started

    return run

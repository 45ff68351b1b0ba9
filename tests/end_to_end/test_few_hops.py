"""How many of our functions lie between a command and its arithmetic: few, and all with a name."""

import traceback
from pathlib import Path
from typing import Any

import pytest

import linear_eval.cli
import ssl_bf.cli
from linear_eval.evaluators import neighbour_votes
from ssl_bf.methods import moco_v3

PACKAGES = [str(Path(package.__file__ or "").parent) for package in (linear_eval, ssl_bf)]
TINY = ["data.train_images=64", "speed.device=cpu"]


def own_frames() -> list[str]:
    """Names of the functions of both packages on the stack, the command first."""
    stack = traceback.extract_stack()
    return [each.name for each in stack if each.filename.startswith(tuple(PACKAGES))]


def spied(module: Any, name: str, seen: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Note the stack whenever `module.name` is called; the call itself is the last hop."""
    original = getattr(module, name)

    def spy(*given: Any, **named: Any) -> Any:
        seen.append([*own_frames(), name])
        return original(*given, **named)

    monkeypatch.setattr(module, name, spy)


def test_from_the_command_to_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    spied(moco_v3, "info_nce", seen, monkeypatch)
    tiny = ["method.name=moco_v3", "method.temperature=0.2", "method.hidden_dim=16", *TINY]
    tiny += ["data.holdout=0", "batch_size=32", "epochs=1", "optimizer.warmup_epochs=0"]
    tiny += ["speed.threads=1", "precision=float32", f"run.directory={tmp_path / 'run'}"]
    assert ssl_bf.cli.main(["pretrain", "quickstart", *tiny, "run.tensorboard=false"]) == 0
    print(" > ".join(seen[0]))
    assert not [name for name in seen[0] if name.startswith("<")]
    assert len(seen[0]) <= 10


def test_from_the_command_to_the_votes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    spied(neighbour_votes.Neighbours, "votes", seen, monkeypatch)
    given = ["backbone=pixels", "evaluators=[knn]", f"output={tmp_path / 'r.json'}", *TINY]
    assert linear_eval.cli.main(["run", "quickstart", "data.test_images=20", *given]) == 0
    print(" > ".join(seen[0]))
    assert not [name for name in seen[0] if name.startswith("<")]
    assert len(seen[0]) <= 8

"""Tests of ssl_bf.run.deterministic: runs that repeat to the bit, and flags put back."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_bf.cli import main
from ssl_bf.run.checkpoint import load_newest
from ssl_bf.run.deterministic import CUBLAS_SETTING, CUBLAS_VARIABLE, deterministic_algorithms


def flags() -> list[Any]:
    cudnn = torch.backends.cudnn
    return [
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.benchmark,
        cudnn.deterministic,
        os.environ.get(CUBLAS_VARIABLE),
    ]


@pytest.mark.parametrize("variable", [None, ":16:8"])
def test_the_flags_are_set_inside_and_put_back(
    variable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CUBLAS_VARIABLE, raising=False)
    if variable:
        monkeypatch.setenv(CUBLAS_VARIABLE, variable)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = flags()
    with pytest.raises(KeyboardInterrupt), deterministic_algorithms():
        assert flags() == [True, False, False, True, CUBLAS_SETTING]
        raise KeyboardInterrupt
    assert flags() == before


def test_two_runs_agree_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[bool] = []

    def run(name: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(len(inside))
        given = ["data.train_images=64", "data.holdout=0", "batch_size=32", "epochs=2"]
        given += ["method.queue_size=64", "optimizer.warmup_epochs=0", "run.tensorboard=false"]
        given += ["speed.deterministic=true", f"run.directory={tmp_path / name}"]
        assert main(["pretrain", "quickstart", *given]) == 0
        return load_newest(tmp_path / name).tensors

    use = torch.use_deterministic_algorithms

    def watched(mode: bool, *, warn_only: bool = False) -> None:
        inside.append(mode)
        use(mode, warn_only=warn_only)

    monkeypatch.setattr(torch, "use_deterministic_algorithms", watched)
    first, second = run("first"), run("second")
    assert inside == [True, False] * 2
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())

"""Tests of ssl_bf.verify.same_runs: each thing that may differ is seen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_bf.run.checkpoint import copied, save
from ssl_bf.verify.same_runs import differences

TENSORS = {"a": torch.tensor([0.0, float("nan")]), "b": torch.tensor(3)}
Lines = list[dict[str, Any]]
LINES: Lines = [{"step": 1, "loss": 0.5, "timing": {"seconds": 1}}, {"step": 2, "loss": 0.25}]


def written(
    folder: Path,
    tensors: dict[str, Tensor] = TENSORS,
    step: int = 2,
    lines: Lines = LINES,
    backbone: bytes = b"x",
    state: int = 0,
) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    save(folder, step=step, tensors=copied(tensors), state={"seed": state}, keep=1)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    (folder / "backbone.safetensors").write_bytes(backbone)
    return folder


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda place: written(place), []),
        (lambda place: written(place, lines=[{**LINES[0], "timing": 2}, LINES[1]]), []),
        (lambda place: written(place, step=3), ["step 3 and 2"]),
        (lambda place: written(place, {**TENSORS, "b": torch.tensor(4)}), ["b"]),
        (lambda place: written(place, {**TENSORS, "b": torch.tensor(3.0)}), ["b"]),
        (lambda place: written(place, {**TENSORS, "a": -TENSORS["a"]}), ["a"]),
        (lambda place: written(place, {"a": TENSORS["a"]}), ["b"]),
        (lambda place: written(place, {**TENSORS, "c": TENSORS["a"]}), ["c"]),
        (lambda place: written(place, state=1), ["state.json"]),
        (lambda place: written(place, backbone=b"y"), ["backbone.safetensors"]),
        (
            lambda place: written(place, lines=LINES[:1]),
            ["metrics.jsonl has 1 lines and 2"],
        ),
        (
            lambda place: written(place, lines=[LINES[0], {"step": 2, "loss": 0.2}]),
            ["metrics.jsonl line 2"],
        ),
    ],
)
def test_everything_but_wall_clock_counts(
    change: Callable[[Path], Path], named: list[str], tmp_path: Path
) -> None:
    assert differences(change(tmp_path / "ours"), written(tmp_path / "theirs")) == named

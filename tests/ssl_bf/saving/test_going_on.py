"""Tests of ssl_bf.saving.going_on."""

from pathlib import Path

import pytest
import torch

from ssl_bf.run.checkpoint import save
from ssl_bf.saving import going_on
from ssl_bf.saving.going_on import start_command, what_is_left


def test_the_advice_names_resume_only_where_something_was_saved(tmp_path: Path) -> None:
    assert what_is_left(tmp_path) == "; nothing was saved"
    save(tmp_path, step=7, tensors={"x": torch.zeros(1)}, state={}, keep=1)
    assert what_is_left(tmp_path) == f"; saved up to step 7, go on with: ssl-bf resume {tmp_path}"
    assert start_command() == "ssl-bf"


def test_the_way_on_starts_as_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert start_command() == "ssl-bf"
    monkeypatch.setattr(going_on, "world_size", lambda: 2)
    assert start_command() == "torchrun --nproc-per-node 2 -m ssl_bf"

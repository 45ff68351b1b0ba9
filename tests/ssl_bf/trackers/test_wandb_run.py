"""Weights & Biases without a network. Run: pytest tests/ssl_bf/trackers/test_wandb_run.py."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from linear_eval.system.errors import InputError
from ssl_bf.choices.setting_checks import check_trackers
from ssl_bf.trackers import wandb_run
from ssl_bf.trackers.choice import TrackerChoice


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_an_offline_run_leaves_its_numbers_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "")
    trackers, notes = TrackerChoice(wandb="offline").open(tmp_path, None)
    trackers[0].add(1, 0.25, {"loss": 1.5})
    trackers[0].add(2, 0.5, {"loss": 1.25})
    trackers[0].close()
    assert notes == []
    importlib.import_module("wandb").teardown()  # as at the end of a process: all is written then
    [log] = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"loss" in log.read_bytes()


def test_what_was_asked_for_and_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked:
        class run:  # noqa: N801 - as the config has it
            wandb = "offline"

    asked: Any = Asked
    monkeypatch.setattr(wandb_run, "is_installed", lambda: False)
    with pytest.raises(InputError, match=r"run.wandb: offline needs the package wandb"):
        check_trackers(asked)
    asked.run.wandb = "off"
    check_trackers(asked)

"""The tiny run in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ssl_bf.commands.pretrain import pretrain
from tests.tiny_run import TINY, Start


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Train the tiny run in the current folder, with overrides."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    return lambda *overrides: pretrain("tiny.yaml", overrides)

"""Every block of docs/python.md runs, one after the other, as a reader would run them."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import linear_eval
import ssl_bf

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_page_names_all_that_is_offered() -> None:
    for module in (linear_eval, ssl_bf):
        for name in module._FROM_PYTHON:
            if name not in ("Backbone", "FinishedRun"):  # what `load` and `pretrain` give
                assert f"{module.__name__}.{name}" in PAGE or f"`{name}`" in PAGE, name


def test_every_block_runs(
    material: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("faiss", reason="faiss is not installed")
    shutil.copytree(material, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.S | re.M)
    assert len(blocks) >= 8
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert names["run"].metrics[-1]["step"] == 2
    printed = capsys.readouterr().out
    assert "128 16" in printed
    assert "torch.Size([1, 32, 128])" in printed

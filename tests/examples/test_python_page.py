"""Every Python block of the documents runs, one after the other, as a reader would run them."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import linear_eval
import ssl_bf

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_page_names_all_that_is_offered() -> None:
    for module in (linear_eval, ssl_bf):
        for name in module._FROM_PYTHON:
            if name not in ("Backbone", "FinishedRun"):  # what `load` and `pretrain` give
                assert f"{module.__name__}.{name}" in PAGE or f"`{name}`" in PAGE, name


def run_blocks(page: Path, place: Path, material: Path) -> dict[str, Any]:
    """Run all blocks of a page in a copy of the material; what they leave behind, by name."""
    pytest.importorskip("faiss", reason="faiss is not installed")
    shutil.copytree(material, place, dirs_exist_ok=True)
    text = page.read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, flags=re.S | re.M):
        exec(compile(block, page.name, "exec"), names)
    return names


def test_the_lines_of_the_readme_run(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/mine").mkdir(parents=True)
    shutil.copy(material / "backbone.safetensors", tmp_path / "runs/mine")
    names = run_blocks(ROOT / "README.md", tmp_path, material)
    assert names["streams"].shape == (2, 64, 128)
    assert len(names["found"]) == 3


def test_every_block_of_the_page_runs(
    material: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_blocks(ROOT / "docs" / "python.md", tmp_path, material)
    assert names["run"].metrics[-1]["step"] == 2
    printed = capsys.readouterr().out
    assert "128 16" in printed
    assert "torch.Size([1, 32, 128])" in printed

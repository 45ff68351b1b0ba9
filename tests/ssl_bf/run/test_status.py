"""Tests of ssl_bf.run.status."""

import json
from pathlib import Path

import pytest

from ssl_bf.run.status import put_right, write_status


def said(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "status.json").read_bytes())
    return found


def test_a_reason_is_one_line(tmp_path: Path) -> None:
    write_status(tmp_path, "failed", step=3, total_steps=9, reason="a\nb")
    assert said(tmp_path)["reason"] == "a b"


@pytest.mark.parametrize("state", ["running", "failed", "stopped"])
def test_a_run_killed_before_it_said_that_it_is_finished_is_put_right(
    state: str, tmp_path: Path
) -> None:
    write_status(tmp_path, state, step=3, total_steps=9)  # type: ignore[arg-type]
    put_right(tmp_path)
    found = said(tmp_path)
    assert (found["state"], found["step"], found["total_steps"]) == ("finished", 9, 9)
    before = (tmp_path / "status.json").stat().st_mtime_ns
    put_right(tmp_path)
    assert (tmp_path / "status.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b'{"state": 3}'])
def test_a_status_that_is_none_is_written_anew_where_the_steps_are_known(
    content: bytes | None, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "status.json").write_bytes(content)
    put_right(tmp_path)
    assert not (tmp_path / "status.json").exists() or content is not None
    put_right(tmp_path, total_steps=4)
    assert said(tmp_path)["step"] == 4

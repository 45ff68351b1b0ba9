"""Tests of ssl_bf.ranks.rank_log."""

import os
import sys
from pathlib import Path

import pytest

from ssl_bf.ranks import rank_log
from tests.forked import ended

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.mark.parametrize("world_size", [1, 2])
def test_what_torch_prints_goes_to_a_file_and_our_lines_to_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    monkeypatch.setattr(rank_log, "world_size", lambda: world_size)
    monkeypatch.setattr(rank_log, "rank", lambda: 1)

    def act() -> int:
        rank_log.log_to_file(tmp_path)
        os.write(2, b"frame #4: <unknown function>\n")
        print("our line", file=sys.stderr)
        return 0

    assert ended(act, tmp_path / "screen") == 0
    log = tmp_path / "logs/rank-1.log"
    frame = "frame #4: <unknown function>\n"
    if world_size == 1:
        assert not log.exists()
        assert (tmp_path / "screen").read_text() == f"{frame}our line\n"
    else:
        assert log.read_text() == frame
        assert (tmp_path / "screen").read_text() == "our line\n"

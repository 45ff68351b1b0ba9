"""Tests of ssl_bf.pixels.block_log; test_pack.py has what an interrupted packer goes on from."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from ssl_bf.pixels import block_log
from ssl_bf.pixels.block_log import PROGRESS, BlockWriter
from ssl_bf.pixels.packed_store import DATA


def test_the_files_are_to_the_bit_what_earlier_versions_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_log, "BLOCK_BYTES", 100)
    with BlockWriter(tmp_path, {"source": "s"}, []) as writer:
        for number in range(7):
            if number == 3:
                writer.append_bad("bad.jpg", "cannot")
            else:
                writer.append(np.arange(number * 10, dtype=np.uint8), (number, 10))
        writer.seal()
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()
    }
    assert found == {
        DATA: "b1f887018955bf441af3cb69e0d3aae4e34ac12fc8ac5aa06445af8644d4d168",
        PROGRESS: "84f47e8826d0b49bdfa5b4180cfa3d4145349edc861138844a04a38cab0d5db7",
    }

"""Tests of linear_eval.system.sealed_blocks."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linear_eval.system.sealed_blocks import BlockFile, Seal, count_sound, to_line

FIRST = to_line({"whose": "mine"})
BLOCKS = [b"one", b"", b"three and more", b"4"]


def line_of(content: bytes) -> bytes:
    said = to_line({"bytes": len(content)})
    return to_line(json.loads(said) | {"sha256": hashlib.sha256(content + said).hexdigest()})


def seal_of(line: bytes) -> Seal:
    record = json.loads(line)
    return Seal(record["bytes"], record["sha256"], to_line({"bytes": record["bytes"]}))


def sound(folder: Path) -> list[bytes]:
    """Lines of the sound blocks."""
    lines = (folder / "log").read_bytes().splitlines(keepends=True)[1:]
    return lines[: count_sound(folder / "data", [seal_of(line) for line in lines])]


def write(folder: Path, blocks: list[bytes], kept: list[bytes], lost: bytes = b"") -> None:
    kept_bytes = sum(seal_of(line).num_bytes for line in kept)
    file = BlockFile(folder / "data", folder / "log", [FIRST, *kept], kept_bytes)
    for content in blocks:
        for part in (content[:2], content[2:]):
            file.append(part)
        said = to_line({"bytes": len(content)})
        assert file.sha256(said) == json.loads(line_of(content))["sha256"]
        file.seal(line_of(content))
    file.append(lost)
    file.close()


def test_blocks_lie_one_behind_another_and_the_log_says_so(tmp_path: Path) -> None:
    write(tmp_path, BLOCKS, [])
    assert (tmp_path / "data").read_bytes() == b"".join(BLOCKS)
    assert (tmp_path / "log").read_bytes() == FIRST + b"".join(map(line_of, BLOCKS))
    assert sound(tmp_path) == [line_of(content) for content in BLOCKS]


def test_a_writer_goes_on_behind_what_is_sound_and_drops_the_rest(tmp_path: Path) -> None:
    write(tmp_path, BLOCKS, [], lost=b"of a killed writer")
    with (tmp_path / "log").open("ab") as log:
        log.write(b'{"bytes": 3, "sha')
    write(tmp_path, [b"new"], sound_lines := [line_of(each) for each in BLOCKS[:3]])
    assert sound(tmp_path) == [*sound_lines, line_of(b"new")]
    assert (tmp_path / "data").read_bytes() == b"".join(BLOCKS[:3]) + b"new"


def test_what_is_not_sealed_is_given_back(tmp_path: Path) -> None:
    file = BlockFile(tmp_path / "data", tmp_path / "log", [FIRST], 0)
    file.append(b"kept")
    file.seal(line_of(b"kept"))
    file.append(b"not sealed")
    file.drop_open()
    file.close()
    assert (tmp_path / "data").read_bytes() == b"kept"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, sum(map(len, BLOCKS)) - 1), bit=st.integers(0, 7), cut=st.booleans())
def test_a_flipped_bit_or_a_lost_end_ends_the_sound_part_there(
    tmp_path: Path, place: int, bit: int, cut: bool
) -> None:
    for name in ("data", "log"):
        (tmp_path / name).unlink(missing_ok=True)
    write(tmp_path, BLOCKS, [])
    content = bytearray((tmp_path / "data").read_bytes())
    content[place] ^= 1 << bit
    (tmp_path / "data").write_bytes(content[:place] if cut else content)
    whole = [sum(map(len, BLOCKS[: count + 1])) <= place for count in range(len(BLOCKS))]
    assert len(sound(tmp_path)) == whole.count(True)


def test_a_flipped_bit_of_a_line_that_the_checksum_covers_is_found(tmp_path: Path) -> None:
    write(tmp_path, [b"one"], [])
    right = seal_of(line_of(b"one"))
    assert count_sound(tmp_path / "data", [right]) == 1
    assert count_sound(tmp_path / "data", [Seal(3, right.sha256, right.line + b" ")]) == 0


def test_a_block_reaches_the_disk_before_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = BlockFile(tmp_path / "data", tmp_path / "log", [FIRST], 0)
    file.append(b"bytes")
    synced = []

    def record(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, len(log())))

    def log() -> bytes:
        return (tmp_path / "log").read_bytes()

    monkeypatch.setattr(os, "fsync", record)
    before = len(log())
    file.seal(b"line\n")
    file.close()
    assert synced == [("data", before), ("log", before + 5)]

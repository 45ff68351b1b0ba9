import hashlib
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from linear_eval.features import stored_writer as feature_writer
from linear_eval.features.stored_blocks import DATA, MANIFEST, read_blocks
from linear_eval.features.stored_writer import RowWriter
from linear_eval.system.errors import InputError

HEADER = {"key": "k"}
SIZE = (8, 8)
ROWS = torch.arange(40, dtype=torch.float32).view(20, 2)


@contextmanager
def _files_of_at_most(num_bytes: int) -> Iterator[None]:
    """The kernel refuses to let a file grow beyond `num_bytes`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def _append(writer: RowWriter, start: int, end: int) -> None:
    writer.append(ROWS[start:end], list(range(start, end)), end=end, image_size=SIZE)


def test_leaving_seals_what_was_appended_whatever_the_reason(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        RowWriter(tmp_path, HEADER, [], "float32") as writer,
    ):
        _append(writer, 0, 4)
        _append(writer, 4, 6)
        raise KeyboardInterrupt
    blocks, is_complete = read_blocks(tmp_path, HEADER, "float32")
    assert [block.end for block in blocks] == [6]
    assert not is_complete


def test_a_second_writer_goes_on_behind_the_sound_blocks(tmp_path: Path) -> None:
    with RowWriter(tmp_path, HEADER, [], "float32") as writer:
        _append(writer, 0, 4)
        writer.seal()
        _append(writer, 4, 8)
    with (tmp_path / DATA).open("ab") as file:
        file.write(b"a torn row")
    with (tmp_path / MANIFEST).open("ab") as file:
        file.write(b'{"rows": 3')
    blocks, _ = read_blocks(tmp_path, HEADER, "float32")
    assert [block.end for block in blocks] == [4, 8]
    with RowWriter(tmp_path, HEADER, blocks[:1], "float32") as writer:
        _append(writer, 4, 20)
        writer.finish(20)
    assert (tmp_path / DATA).read_bytes() == ROWS.numpy().tobytes()
    assert read_blocks(tmp_path, HEADER, "float32")[1]


@pytest.mark.parametrize(("seconds", "num_bytes"), [(0.0, 2**30), (1e9, 16)])
def test_blocks_are_sealed_by_age_and_by_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, num_bytes: int
) -> None:
    monkeypatch.setattr("linear_eval.system.sealed_blocks.BLOCK_SECONDS", seconds)
    monkeypatch.setattr(feature_writer, "BLOCK_BYTES", num_bytes)
    with RowWriter(tmp_path, HEADER, [], "float32") as writer:
        for start in (0, 2, 4):
            _append(writer, start, start + 2)
            assert [b.end for b in read_blocks(tmp_path, HEADER, "float32")[0]][-1] == start + 2


def test_images_that_differ_from_those_before_the_interruption_are_refused(tmp_path: Path) -> None:
    with RowWriter(tmp_path, HEADER, [], "float32") as writer:
        _append(writer, 0, 4)
    blocks, _ = read_blocks(tmp_path, HEADER, "float32")
    with (
        RowWriter(tmp_path, HEADER, blocks, "float32") as writer,
        pytest.raises(InputError, match="images: 9 x 8 pixels, but 8 x 8 .* images.resize"),
    ):
        writer.append(ROWS[4:6], [4, 5], end=6, image_size=(8, 9))


def test_a_disk_without_room_is_one_line_and_keeps_what_was_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_writer, "BLOCK_BYTES", 16)
    with (
        _files_of_at_most(4 * ROWS[0].nbytes + 700),
        pytest.raises(InputError, match=r"cannot be stored \(.*features.folder"),
        RowWriter(tmp_path, HEADER, [], "float32") as writer,
    ):
        for start in range(0, 20, 2):
            _append(writer, start, start + 2)
    blocks, is_complete = read_blocks(tmp_path, HEADER, "float32")
    assert not is_complete
    assert 0 < blocks[-1].end < 20
    assert (tmp_path / DATA).stat().st_size == blocks[-1].end * ROWS[0].nbytes
    with RowWriter(tmp_path, HEADER, blocks, "float32") as writer:
        _append(writer, blocks[-1].end, 20)
        writer.finish(20)
    assert (tmp_path / DATA).read_bytes() == ROWS.numpy().tobytes()
    assert read_blocks(tmp_path, HEADER, "float32")[1]


def test_the_files_are_to_the_bit_what_earlier_versions_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_writer, "BLOCK_BYTES", 16)
    with RowWriter(tmp_path, HEADER, [], "float32") as writer:
        for start in (0, 4, 8):  # the fourth image of each batch could not be read
            rows = ROWS[start : start + 3]
            writer.append(rows, [start, start + 1, start + 2], end=start + 4, image_size=SIZE)
        writer.finish(12)
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()
    }
    assert found == {
        DATA: "520a61af5d12150dfbfde084c9971076fd0fd7113b85eebf7bbbbcc37f10fb85",
        MANIFEST: "cc54c3f58de6c286473c1a5c31ce0c61a02d8cafd3c0e88dc69228eeea14652e",
    }

from pathlib import Path

import pytest
import torch

from linear_eval.features.stored_blocks import DATA, MANIFEST, Block, DamagedError, read_blocks
from linear_eval.features.stored_writer import RowWriter

HEADER = {"key": {"weights": "w"}, "images": 7}
ROWS = torch.arange(12, dtype=torch.float32).view(6, 2)


def _write(folder: Path) -> list[Block]:
    """Six rows of seven images in two blocks; image 4 could not be read."""
    folder.mkdir()
    with RowWriter(folder, HEADER, [], "float32") as writer:
        writer.append(ROWS[:3], [0, 1, 2], end=3, image_size=(8, 9))
        writer.seal()
        writer.append(ROWS[3:5], [3, 5], end=6, image_size=(8, 9))
        writer.append(ROWS[5:], [6], end=7, image_size=(8, 9))
        writer.finish(7)
    blocks, is_complete = read_blocks(folder, HEADER, "float32")
    assert is_complete
    return blocks


def _is_sound(folder: Path) -> bool:
    try:
        return read_blocks(folder, HEADER, "float32")[1]
    except DamagedError:
        return False


def test_blocks_say_what_was_written(tmp_path: Path) -> None:
    blocks = _write(tmp_path / "rows")
    assert [(block.rows, block.end, block.skipped) for block in blocks] == [
        (3, 3, ()),
        (3, 7, (4,)),
    ]
    assert blocks[0].kind == (2, 8, 9)
    assert (tmp_path / "rows" / DATA).read_bytes() == ROWS.numpy().tobytes()


@pytest.mark.parametrize("name", [DATA, MANIFEST])
@pytest.mark.parametrize("flip", [1, 0x80, 0x10])
def test_a_flipped_bit_anywhere_is_noticed(tmp_path: Path, name: str, flip: int) -> None:
    _write(tmp_path / "rows")
    path = tmp_path / "rows" / name
    content = path.read_bytes()
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= flip
        path.write_bytes(flipped)
        assert not _is_sound(tmp_path / "rows"), place
    path.write_bytes(content)
    assert _is_sound(tmp_path / "rows")


@pytest.mark.parametrize("name", [DATA, MANIFEST])
def test_a_lost_or_lengthened_tail_is_noticed(tmp_path: Path, name: str) -> None:
    _write(tmp_path / "rows")
    path = tmp_path / "rows" / name
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert not _is_sound(tmp_path / "rows"), length
    path.write_bytes(content + b"\0")
    assert not _is_sound(tmp_path / "rows")
    path.unlink()
    with pytest.raises(DamagedError, match=f"{name} is missing"):
        read_blocks(tmp_path / "rows", HEADER, "float32")


def test_a_line_that_is_missing_or_comes_twice_ends_the_sound_part(tmp_path: Path) -> None:
    blocks = _write(tmp_path / "rows")
    path = tmp_path / "rows" / MANIFEST
    header, first, second, _ = path.read_bytes().splitlines(keepends=True)
    for lines, sound in (
        ([header, second], []),
        ([header, first, first, second], blocks[:1]),
        ([header, first, second], blocks),
    ):
        path.write_bytes(b"".join(lines))
        assert read_blocks(tmp_path / "rows", HEADER, "float32") == (sound, False)


@pytest.mark.parametrize("header", [{"key": {"weights": "v"}, "images": 7}, {}])
def test_rows_of_another_header_are_refused(tmp_path: Path, header: dict[str, object]) -> None:
    _write(tmp_path / "rows")
    with pytest.raises(DamagedError, match="belongs to other features"):
        read_blocks(tmp_path / "rows", header, "float32")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]\n",
        b"{}\n",
        b"null\n",
        b"\xff\n",
        Block(1, 2, 3, 4, 5, ()).line()[:-1],
        Block(1, 2, 3, 4, 5, (-1,)).line(),
        Block(-1, 2, 3, 4, 5, ()).line(),
        Block(1.5, 2, 3, 4, 5, ()).line(),  # type: ignore[arg-type]
        Block(1, 2, 3, 4, 5, ("0",)).line(),  # type: ignore[arg-type]
        Block(1, 2, 3, 4, "5", ()).line(),  # type: ignore[arg-type]
        Block(1, 2, 3, 4, 5, (), 6).line(),  # type: ignore[arg-type]
    ],
)
def test_only_what_a_block_writes_is_read_as_one(line: bytes) -> None:
    assert Block.from_line(line) is None
    block = Block(1, 2, 3, 4, 5, (6, 7), "s")
    assert Block.from_line(block.line()) == block

"""Text of any editor is read, or named for what it is."""

from pathlib import Path

import pytest

from linear_eval.system.user_text import TextError, decode_text, numbered_lines, read_text

TEXT = "n01\nca\u00e9\n\n b \n"


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_utf8_is_read_whatever_ends_its_lines(code: str, end: str, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_bytes(TEXT.replace("\n", end).encode(code))
    assert read_text(file) == TEXT
    assert numbered_lines(read_text(file)) == [(1, "n01"), (2, "ca\u00e9"), (4, " b")]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("utf-16", "line 1: the file is UTF-16 text"),
        ("utf-16-le", "line 1: the file is UTF-16 text.*iconv -f UTF-16LE"),
        ("utf-16-be", "line 1: the file is UTF-16 text.*iconv -f UTF-16BE"),
        ("utf-32", "line 1: the file is UTF-32 text"),
        ("latin-1", "line 2: byte 0xE9 is not UTF-8 text, perhaps Latin-1 or Windows-1252"),
    ],
)
def test_another_encoding_is_named(code: str, message: str) -> None:
    for text in (TEXT, TEXT.replace("\n", "\r\n"), TEXT.replace("\n", "\r")):
        with pytest.raises(TextError, match=message):
            decode_text(text.encode(code))


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="line 2: holds a zero byte, so it is no text"):
        decode_text(b"a\nPK\x03\0more of it\n")
    with pytest.raises(TextError, match=r"cannot be read .No such file"):
        read_text(tmp_path / "gone")
    with pytest.raises(TextError, match=r"cannot be read .Is a directory"):
        read_text(tmp_path)

"""Text files of users, from any editor: they are read here alone.

UTF-8 with or without a byte-order mark, lines that end as on Linux, Windows or an old Mac.
"""

from __future__ import annotations

import codecs
from importlib.resources.abc import Traversable
from pathlib import Path

_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # before UTF-16, whose mark begins it
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)

ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".xz", ".bz2", ".zst", ".7z", ".rar")
"""Ends of the names of files that hold others, or another one, packed."""


class TextError(ValueError):
    """A file is no text that can be read; the message says what is wrong, and how to mend it."""


def read_text(file: Path | Traversable) -> str:
    r"""The text of a file, without its byte-order mark, each line ended by "\n".

    Raises:
        TextError: it cannot be read or is not UTF-8; UTF-16, Latin-1 and binary files are named.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise TextError(f"cannot be read ({error.strerror or error})") from error
    return decode_text(content)


def decode_text(content: bytes) -> str:
    """As `read_text`, of bytes that were read already."""
    for mark, name in _MARKS:
        if content.startswith(mark):
            raise TextError(f"line 1: the file is {name} text, not UTF-8 ({_remedy(name)})")
    zero = content.find(b"\0")
    if zero >= 0:
        code = "UTF-16BE" if zero % 2 == 0 else "UTF-16LE"
        halves = content[zero % 2 :: 2]
        if len(content) % 2 == 0 and halves.count(0) > 0.9 * len(halves):
            raise TextError(f"line 1: the file is UTF-16 text, not UTF-8 ({_remedy(code)})")
        raise TextError(f"line {_line(content, zero)}: holds a zero byte, so it is no text")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = _line(content, error.start)
        byte = content[error.start]
        raise TextError(
            f"line {line}: byte 0x{byte:02X} is not UTF-8 text, perhaps Latin-1 or Windows-1252"
            f" ({_remedy('WINDOWS-1252')})"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def numbered_lines(text: str) -> list[tuple[int, str]]:
    """Lines that hold something, without blanks at their end, with their numbers from 1 on."""
    lines = [(number, line.rstrip()) for number, line in enumerate(text.split("\n"), start=1)]
    return [(number, line) for number, line in lines if line]


def _remedy(code: str) -> str:
    return f"save it as UTF-8: iconv -f {code} -t UTF-8 FILE"


def _line(content: bytes, place: int) -> int:
    before = content[:place].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return before.count(b"\n") + 1

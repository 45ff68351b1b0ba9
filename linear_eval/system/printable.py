"""What commands print: text of others that moves no cursor, aligned tables, notes."""

import math
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence

SHOWN = 5  # lines


def printable(text: str) -> str:
    """The text in one line: line breaks, control characters and broken bytes are escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def one_line(text: str) -> str:
    """As `printable`, for a message that may have lines: they become one, without outer blanks."""
    return printable(" ".join(text.split("\n")).strip())


def shortened(lines: Sequence[str], *, verbose: bool) -> list[str]:
    """At most five notes; the last one says how many are held back, if some are.

    Args:
        lines: the most important first.
        verbose: whether all are wanted.
    """
    if not verbose and len(lines) > SHOWN:
        shown = lines[: SHOWN - 1]
        lines = [*shown, f"note: {len(lines) - len(shown)} more lines like these: add --verbose"]
    return [part for line in lines for part in _between_words(line)]


def _between_words(line: str) -> list[str]:
    """The line, on a terminal broken where that is full, and never within a word."""
    width = _terminal_width()
    if len(line) <= width:
        return [line]
    return textwrap.wrap(
        line,
        int(width),
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def aligned(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, width: int | None = None
) -> list[str]:
    """Lines with the first column at the left, the others at the right; nothing without rows.

    A table wider than the terminal is parted between columns; every part has the first one.

    Args:
        headings: one per column.
        rows: of as many cells.
        width: in characters; None: that of the terminal, without end where there is none.
    """
    if not rows:
        return []
    room = width or _terminal_width()
    columns = list(zip(headings, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    first = _padded(columns[0], widths[0], str.ljust)
    parts: list[list[list[str]]] = []
    used = 0
    for column, needed in zip(columns[1:], widths[1:], strict=True):
        used += 2 + needed
        if not parts or widths[0] + used > room:
            parts.append([first])
            used = 2 + needed
        parts[-1].append(_padded(column, needed, str.rjust))
    return ["  ".join(cells) for part in parts or [[first]] for cells in zip(*part, strict=True)]


def _padded(cells: Sequence[str], width: int, pad: Callable[[str, int], str]) -> list[str]:
    return [pad(cell, width) for cell in cells]


def _terminal_width() -> float:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else math.inf

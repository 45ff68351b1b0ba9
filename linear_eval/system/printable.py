"""What commands print: text of others that moves no cursor, aligned tables, notes."""

from collections.abc import Sequence

SHOWN = 5  # lines


def printable(text: str) -> str:
    """The text in one line: line breaks, control characters and broken bytes are escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def one_line(text: str) -> str:
    """As `printable`, for a message that may have lines: they become one, without outer blanks."""
    return printable(" ".join(text.split("\n")).strip())


def shortened(lines: Sequence[str], *, verbose: bool) -> list[str]:
    """At most five lines; the last one says how many are held back, if some are.

    Args:
        lines: the most important first.
        verbose: whether all are wanted.
    """
    if verbose or len(lines) <= SHOWN:
        return list(lines)
    shown = list(lines[: SHOWN - 1])
    return [*shown, f"note: {len(lines) - len(shown)} more lines like these: add --verbose"]


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the first column at the left, the others at the right; nothing without rows."""
    if not rows:
        return []
    rows = [headings, *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return lines

"""A pseudo-terminal in place of stderr, and what somebody who looks at it sees in the end."""

from __future__ import annotations

import logging
import os
import re
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from unittest import mock

# what text and tqdm write: a word, a line's end, carriage return, one up, erase to the line's end
_PIECES = re.compile(r"\r\n|\n|\r|\x1b\[A|\x1b\[2?K|[^\r\n\x1b]+|.", re.DOTALL)


class Terminal:
    """Everything that was written to it."""

    def __init__(self) -> None:
        self.written = b""

    @property
    def lines(self) -> list[str]:
        """The lines that stand on the screen, without spaces at their ends."""
        screen, row, column = [""], 0, 0
        for piece in _PIECES.findall(self.written.decode()):
            if piece == "\r":
                column = 0
            elif piece in ("\n", "\r\n"):
                row, column = row + 1, column if piece == "\n" else 0
            elif piece == "\x1b[A":
                row -= 1
            elif piece.startswith("\x1b["):
                screen[row] = screen[row][:column]
            else:
                screen += [""] * (row + 1 - len(screen))
                before = screen[row].ljust(column)
                screen[row] = before[:column] + piece + before[column + len(piece) :]
                column += len(piece)
        return [line.rstrip() for line in screen]


@contextmanager
def terminal(columns: int = 120) -> Iterator[Terminal]:
    """Inside, stderr is a terminal, and nobody but the command shows log records."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    shown = Terminal()

    def read() -> None:
        while True:
            try:
                found = os.read(ours, 4096)
            except OSError:  # nobody writes any more
                return
            shown.written += found

    reader = Thread(target=read)
    reader.start()
    with (
        os.fdopen(theirs, "w", buffering=1) as stream,
        mock.patch.object(sys, "stderr", stream),
        mock.patch.object(logging.getLogger(), "handlers", []),
    ):
        yield shown
    reader.join()
    os.close(ours)

"""Lines printed while a command works: each whole, above any open progress bars."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO, TypeVar

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")


_silence = threading.Event()


@contextmanager
def silenced() -> Iterator[None]:
    """Inside, `say` says nothing and no bar is drawn: for Python programs that did not ask."""
    if _silence.is_set():  # by somebody further out
        yield
        return
    _silence.set()
    try:
        yield
    finally:
        _silence.clear()


def say(line: str) -> None:
    """Print a line to stderr at once.

    Whatever is printed while a bar may be open comes through here, or it would stand in the middle
    of the bar.
    """
    if _silence.is_set():
        return
    if os.environ.get("RANK", "0") != "0" and sys.stderr.isatty():
        line = f"\r\x1b[K{line}"  # the bar is that of another process, which draws it anew
    bars = sys.modules.get("tqdm")
    if bars is None:  # nobody has drawn one
        print(line, file=sys.stderr)
    else:
        bars.tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()


def progress_bar(
    items: Iterable[T],
    label: str,
    total: int,
    *,
    unit: str,
    initial: int = 0,
    is_quiet: bool = False,
) -> tqdm[T]:
    """The items, with a bar on a terminal only; to be closed, or it stands in an error's way.

    Args:
        items: those left.
        label: of the bar.
        total: number of all.
        unit: what one of them is.
        initial: how many of them were done before.
        is_quiet: no bar in any case.
    """
    from tqdm import tqdm

    return tqdm(
        items,
        desc=label or None,
        initial=initial,
        total=total,
        unit=unit,
        leave=False,
        disable=True
        if is_quiet or _silence.is_set()
        else None,  # None: unless stderr is a terminal
        dynamic_ncols=True,
    )


@contextmanager
def whole_lines() -> Iterator[None]:
    """Say warnings and log records as `say` does, where a terminal shows progress bars."""
    if not sys.stderr.isatty():
        yield
        return
    root, handler, before = logging.getLogger(), _Saying(), warnings.showwarning
    if not root.handlers:  # else somebody else shows them
        root.addHandler(handler)
    warnings.showwarning = _say_warning
    try:
        yield
    finally:
        root.removeHandler(handler)
        warnings.showwarning = before


class _Saying(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def _say_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    text = warnings.formatwarning(message, category, filename, lineno, line)
    if file is None:
        say(text.rstrip())
    else:
        file.write(text)

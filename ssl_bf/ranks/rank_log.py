"""What torch's C++ prints, of each process in a file of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from linear_eval.system.distributed import rank, world_size
from linear_eval.system.errors import InputError

FOLDER = "logs"


@contextmanager
def own_log(directory: Path) -> Iterator[None]:
    """Inside, what is written to file 2 goes to `logs/rank-N.log`, and `sys.stderr` to the screen.

    When one process ends, torch prints a hundred lines in each of the others. One process alone
    keeps the screen.

    Args:
        directory: of the run.

    Raises:
        InputError: the file cannot be made.
    """
    if world_size() == 1:
        yield
        return
    file = directory / FOLDER / f"rank-{rank()}.log"
    try:
        file.parent.mkdir(exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror or error})") from error
    before, screen = sys.stderr, os.dup(2)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.stderr = os.fdopen(screen, "w", buffering=1, closefd=False)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = before
        os.dup2(screen, 2)
        os.close(screen)

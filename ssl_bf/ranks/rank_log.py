"""What torch's C++ prints, of each process in a file of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from linear_eval.system.distributed import rank, world_size
from linear_eval.system.errors import InputError

FOLDER = "logs"


def log_to_file(directory: Path) -> None:
    """From now on what is written to file 2 goes to `logs/rank-N.log`, `sys.stderr` to the screen.

    When one process ends, torch prints a hundred lines in each of the others. One process alone
    keeps the screen for all.

    Args:
        directory: of the run.

    Raises:
        InputError: the file cannot be made.
    """
    if world_size() == 1:
        return
    file = directory / FOLDER / f"rank-{rank()}.log"
    try:
        file.parent.mkdir(exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        raise InputError(
            f"{file}: cannot be written ({error.strerror or error}); free some space or mend the "
            "disk, then give the same command with run.resume=auto"
        ) from error
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    os.dup2(descriptor, 2)
    os.close(descriptor)

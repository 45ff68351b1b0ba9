"""`status.json`: what became of a run, for whoever looks at it from outside."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Literal

from linear_eval.system.atomic_file import atomic_file
from linear_eval.system.printable import one_line

STATUS_FILE = "status.json"
State = Literal["running", "finished", "stopped", "failed"]


def write_status(
    directory: Path, state: State, *, step: int, total_steps: int, reason: str | None = None
) -> None:
    """Write it whole.

    Raises:
        InputError: it cannot be written.
    """
    status: dict[str, Any] = {
        "state": state,
        "step": step,
        "total_steps": total_steps,
        "updated_unix_seconds": int(time.time()),
    }
    if reason is not None:
        status["reason"] = one_line(reason)
    write_json(directory / STATUS_FILE, status)


def put_right(directory: Path, total_steps: int | None = None) -> None:
    """Have a run whose backbone is there say so: it may have been killed before it did.

    Args:
        directory: of the run.
        total_steps: None: as the status says.
    """
    try:
        said = json.loads((directory / STATUS_FILE).read_bytes())
    except (OSError, ValueError):
        said = {}
    said = said if isinstance(said, dict) else {}
    steps = said.get("total_steps") if total_steps is None else total_steps
    if said.get("state") != "finished" and isinstance(steps, int):
        write_status(directory, "finished", step=steps, total_steps=steps)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a file of JSON whole."""
    with atomic_file(path) as file:
        file.write(json.dumps(value, indent=2).encode() + b"\n")

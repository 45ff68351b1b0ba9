"""Files of JSON lines that grow while a run goes on; each line has a `step`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from linear_eval.system.atomic_file import atomic_file


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Write one line behind the others, in a new file where there is none.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("ab") as file:
        file.write(json.dumps(record, allow_nan=False).encode() + b"\n")


def drop_lines_after(path: Path, step: int) -> None:
    """Keep the lines up to `step`; a line cut short by a killed process goes too."""
    if not path.exists():
        return
    lines = path.read_bytes().splitlines()
    with atomic_file(path) as file:
        file.writelines(line + b"\n" for line in lines if _is_up_to(step, line))


def _is_up_to(step: int, line: bytes) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and record.get("step", math.inf) <= step

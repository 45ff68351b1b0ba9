"""What `metrics.jsonl` says of the relation over training."""

from __future__ import annotations

import json
from pathlib import Path

from linear_eval.system.errors import InputError

FAMILIES = ("attention_entropy", "gate", "context_gap", "stream_cosine")

Curve = tuple[list[int], list[float]]  # steps and values


def curves(path: Path) -> dict[str, Curve]:
    """Key -> its logged values, for every key of a family; values that were no number are left out.

    A last line that is cut short, of a run that goes on or was killed, is passed over.

    Raises:
        InputError: another line is no JSON.
    """
    found: dict[str, Curve] = {}
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(
                f"{path}: line {number} is no JSON, expected what `ssl-bf pretrain` wrote; put the "
                "file back, or move it away to go without curves"
            ) from error
        for name, value in record.items():
            if name.partition("/")[0] in FAMILIES and value is not None:
                steps, values = found.setdefault(name, ([], []))
                steps.append(record["step"])
                values.append(value)
    return found

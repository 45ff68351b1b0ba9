"""metrics.csv: step, epoch, name, value; a line per number, for spreadsheets and R."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from linear_eval.system.atomic_file import atomic_file

FILE = "metrics.csv"


class CsvTable:
    """Appends to the table in a run's directory."""

    def __init__(self, run_directory: Path, resume_step: int | None) -> None:
        """Begin anew, or keep the lines up to `resume_step`."""
        path = run_directory / FILE
        rows = [["step", "epoch", "name", "value"]]
        if resume_step is not None and path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                kept = [row for row in csv.reader(file) if _is_up_to(resume_step, row)]
            rows += kept
        with atomic_file(path) as whole:
            whole.write("".join(f"{','.join(row)}\n" for row in rows).encode())
        self._file = path.open("a", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file, lineterminator="\n")

    def add(self, step: int, epoch: float, numbers: Mapping[str, float]) -> None:
        """Write a line per number."""
        self._rows.writerows([step, epoch, name, value] for name, value in numbers.items())
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _is_up_to(step: int, row: list[str]) -> bool:
    """Whether a line is whole and of a step that stays; the heading is neither."""
    return len(row) == 4 and row[0].isdigit() and int(row[0]) <= step

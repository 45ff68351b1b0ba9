"""The tables of the page as files: CSV, Markdown, LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from linear_eval.report.tables import Table
from linear_eval.report.verdict import points_text, range_text
from linear_eval.results.intervals import Interval, format_interval
from linear_eval.results.study_file import Study
from linear_eval.system.atomic_file import atomic_file
from linear_eval.system.errors import InputError

_FORMATS = {".md": "github", ".tex": "latex_booktabs"}


def write_tables(path: Path, tables: Sequence[Table], studies: Sequence[Study]) -> None:
    """Write all tables to one file; the end of its name decides the form.

    CSV is one table with a line per number, for other programs; the others are for papers.

    Raises:
        InputError: it cannot be written, or the package tabulate is missing.
    """
    if path.suffix == ".csv":
        text = _as_csv(tables, studies)
    else:
        text = _as_text(tables, studies, _FORMATS[path.suffix])
    with atomic_file(path) as file:
        file.write(text.encode())


def _as_csv(tables: Sequence[Table], studies: Sequence[Study]) -> str:
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["what", "name", "metric", "value", "low", "high"])
    for table in tables:
        for row in table.rows:
            for metric, value in row.shown.metrics.items():
                low, high = row.shown.intervals.get(metric) or ("", "")
                names = _for_csv(row.shown.name), _for_csv(metric)
                rows.writerow(["contestant", *names, value, low, high])
    for study in studies:
        for each in study.contrasts:
            low, high = each.interval or ("", "")
            names = _for_csv(each.name), _for_csv(each.metric)
            rows.writerow(["contrast", *names, each.difference, low, high])
    return file.getvalue()


def _as_text(tables: Sequence[Table], studies: Sequence[Study], form: str) -> str:
    try:
        from tabulate import tabulate
    except ModuleNotFoundError as error:
        raise InputError(
            "tabulate: not installed, expected for .md and .tex; pip install 'ssl-bf[report]'"
        ) from error

    def laid_out(headings: list[str], rows: list[list[str]]) -> str:
        if form == "github":  # tabulate escapes for LaTeX alone
            headings, *rows = [[_for_markdown(text) for text in row] for row in (headings, *rows)]
        align = ["left", *["right"] * (len(headings) - 1)]
        return str(tabulate(rows, headings, form, colalign=align, disable_numparse=True))

    parts = []
    for table in tables:
        headings = ["percent", *(column.heading for column in table.columns)]
        rows = [
            [row.shown.name, *(_cell(cell.value, cell.interval) for cell in row.cells)]
            for row in table.rows
        ]
        parts.append(laid_out(headings, rows))
    for study in studies:
        contrasts = [
            [f"{each.name}, {each.metric}", points_text(each.difference), _range(each.interval)]
            for each in study.contrasts
        ]
        parts.append(laid_out(["contrast", "points", "95 % interval"], contrasts))
    return "\n\n".join(parts) + "\n"


def _cell(value: float | None, interval: Interval | None) -> str:
    return "-" if value is None else format_interval(value, interval)


def _range(interval: Interval | None) -> str:
    return "-" if interval is None else range_text(interval)


def _for_markdown(text: str) -> str:
    return re.sub(r"[\\|\[`]", r"\\\g<0>", text).replace("<", "&lt;")


def _for_csv(name: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name

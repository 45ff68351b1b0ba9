"""What the main table has no room for: few labels with their spread, and classes by frequency."""

from __future__ import annotations

from linear_eval.errors import one_line
from linear_eval.evaluators.frequency import GROUPS
from linear_eval.report import Row, headline_knn

_PROBES = ("linear_probe/top1", "logistic_probe/top1")


def detail_lines(rows: list[Row]) -> list[str]:
    """One line per number, one column per contestant; nothing if no row has such numbers.

    Args:
        rows: in the order of the table. A contestant without a number (raw pixels cannot be
            fine-tuned) shows "-"; "+-" is the standard deviation over draws of the labels.
    """
    metrics = rows[-1].metrics
    keys = [key for key in metrics if key.startswith(("low_shot/", "fine_tune/"))]
    keys = [key for key in keys if key.endswith("/top1")]
    for headline in (headline_knn(metrics), *_PROBES):
        of_groups = [f"{(headline or '').removesuffix('/top1')}/{group}" for group in GROUPS]
        keys += [key for key in of_groups if key in metrics]
    if not keys:
        return []
    titles = [one_line(row.contestant.title) for row in rows]
    columns = [
        [title, *(_cell(row, key) for key in keys)] for title, row in zip(titles, rows, strict=True)
    ]
    headings = ["percent", *keys]
    widths = [max(map(len, column)) for column in (headings, *columns)]
    lines = []
    for heading, *cells in zip(headings, *columns, strict=True):
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([heading.ljust(widths[0]), *padded]))
    return lines


def _cell(row: Row, key: str) -> str:
    if key not in row.metrics:
        return "-"
    spread = row.notes.get(key.removesuffix("top1") + "spread")
    return f"{row.metrics[key]:.1f}" + (f" +- {spread:.1f}" if spread is not None else "")

"""The table that `make torture` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.torture.figures import Figures
from tests.torture.row import Row

_HEADINGS = ("what", "tried", "went wrong", "bound 3/n", "must", "aim")
_NUM_NAMED = 5  # of what went wrong


def table(rows: Sequence[Row], figures: Mapping[str, Figures]) -> list[str]:
    """Lines of Markdown, and below it what went wrong."""
    lines = [f"| {' | '.join(_HEADINGS)} |", f"|{'---|' * len(_HEADINGS)}"]
    lines += [_line(row, figures.get(row.name, Figures())) for row in rows]
    for row in rows:
        found = figures.get(row.name, Figures())
        if found.facts:
            said = ", ".join(f"{value:,} {name}" for name, value in sorted(found.facts.items()))
            lines.append(f"{row.name}: {said}")
        lines += [f"{row.name}: {bad}" for bad in found.bad[:_NUM_NAMED]]
    return lines


def _line(row: Row, found: Figures) -> str:
    is_all = found.total is not None and found.next_trial >= found.total
    of = "" if found.total is None else f" ({found.next_trial:,} of {found.total:,} trials)"
    bound = f"{3 / found.count:.2g}" if found.count and not found.bad and not is_all else "-"
    cells = (
        row.says,
        f"{found.count:,}{' (all)' if is_all else of}",
        f"{len(found.bad)}",
        bound,
        "every one" if row.must is None else f"{row.must:,}",
        "-" if row.aim is None else f"{row.aim:,}",
    )
    return f"| {' | '.join(cells)} |"

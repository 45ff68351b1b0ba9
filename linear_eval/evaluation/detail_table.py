"""What the main table has no room for: few labels with their spread, and classes by frequency."""

from __future__ import annotations

from linear_eval.evaluation.protocols import PROTOCOLS, metrics_of
from linear_eval.evaluation.report import Row
from linear_eval.evaluation.text_table import aligned
from linear_eval.evaluators.headlines import details_of
from linear_eval.system.printable import one_line

SPREAD = "/spread"  # end of the key of a note that stands beside its number here


def detail_lines(rows: list[Row]) -> list[str]:
    """One line per number, one column per contestant; nothing if no row has such numbers.

    Args:
        rows: in the order of the table. A contestant without a number (raw pixels cannot be
            fine-tuned) shows "-"; "+-" is the standard deviation over draws of the labels.
    """
    keys = detail_metrics(rows[-1].metrics)
    titles = [one_line(row.contestant.title) for row in rows]
    return aligned(
        ["percent", *titles], [[key, *(_cell(row, key) for row in rows)] for key in keys]
    )


def detail_metrics(metrics: dict[str, float]) -> list[str]:
    """The metric of every line, those of our own protocol first."""
    return [
        protocol.metric_prefix + key
        for name, protocol in PROTOCOLS.items()
        for key in details_of(metrics_of(name, metrics))
    ]


def _cell(row: Row, key: str) -> str:
    if key not in row.metrics:
        return "-"
    spread = row.notes.get(key.removesuffix("/top1") + SPREAD)
    return f"{row.metrics[key]:.1f}" + (f" +- {spread:.1f}" if spread is not None else "")

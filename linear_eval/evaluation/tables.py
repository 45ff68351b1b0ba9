"""The tables on the screen: all protocols, details, and the main one with what it says.

Where `rows` are asked for, they are in the order of the table, the judged backbone last.
"""

from __future__ import annotations

from linear_eval.evaluation.protocols import PROTOCOLS, metrics_of
from linear_eval.evaluation.row import Row
from linear_eval.evaluators import EVALUATORS, knn
from linear_eval.evaluators.headlines import columns_of, details_of
from linear_eval.results.intervals import format_range
from linear_eval.system.printable import aligned, one_line, shortened

_RANGES = "  95 %, test sampling"
SPREAD = "/spread"  # end of the key of a note that stands beside its number here


def protocol_lines(rows: list[Row], protocols: tuple[str, ...]) -> list[str]:
    """What each protocol calls the k-NN and the linear number; nothing if there are only ours.

    Args:
        rows: in the order of the table.
        protocols: names, in the order asked for.
    """
    titles = [one_line(row.contestant.title) for row in rows]
    columns = protocol_columns(rows[-1].metrics, protocols)
    return aligned(
        ["percent", *titles],
        [
            [heading, *(f"{row.metrics[key]:.1f}" for row in rows)]
            for heading, key in columns.items()
        ],
    )


def protocol_columns(metrics: dict[str, float], protocols: tuple[str, ...]) -> dict[str, str]:
    """Heading -> metric of every line."""
    if protocols == ("ours",):
        return {}  # the main table shows them
    judging = {name for protocol in PROTOCOLS.values() for name in protocol.settings}
    published = [each.headline for each in EVALUATORS if each.name in judging]
    return {
        f"{name} {heading}": PROTOCOLS[name].metric_prefix + key
        for name in protocols
        for heading, key in columns_of(metrics_of(name, metrics), 0, published).items()
    }


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


def format_report(
    rows: list[Row], *, num_classes: int, notes: list[str], verbose: bool = False
) -> str:
    """The table, the backbone's gain or cost against every other file, and the notes.

    Args:
        rows: in the order of the table, the judged backbone last.
        num_classes: decides whether top-5 is worth a column.
        notes: the most important first.
        verbose: whether all of the notes are wanted.
    """
    columns = columns_of(metrics_of("ours", rows[-1].metrics), num_classes)
    said = [*_differences(rows), *(f"note: {one_line(note)}" for note in notes)]
    return "\n".join([*_table(rows, columns), *shortened(said, verbose=verbose)])


def _table(rows: list[Row], columns: dict[str, str]) -> list[str]:
    if not columns:
        return []  # all that was computed has a table of its own
    table = [
        [
            one_line(row.contestant.title),
            *(
                f"{row.metrics[key]:5.1f}" if key in row.metrics else "-"
                for key in columns.values()
            ),
        ]
        for row in rows
    ]
    main = rows[-1]
    if main.intervals:
        ranges = (format_range(main.intervals.get(key)) for key in columns.values())
        table.append([_RANGES, *ranges])
    return aligned(["percent", *columns], table)


def _differences(rows: list[Row]) -> list[str]:
    """What the backbone gains or costs against every other file, in points of k-NN."""
    *others, main = rows
    found = columns_of(metrics_of("ours", main.metrics), 0, [knn.EVALUATOR.headline])
    if not found or not main.contestant.is_file:
        return []
    [(heading, key)] = found.items()
    title = one_line(main.contestant.title)
    return [
        f"'{title}' {_verdict(main.metrics[key] - other.metrics[key])} {heading} "
        f"against '{one_line(other.contestant.title)}' here (one run each)"
        for other in others
        if other.contestant.is_file
    ]


def _verdict(points: float) -> str:
    points = round(points, 1)
    if points == 0:
        return "neither gains nor costs"
    return f"{'costs' if points < 0 else 'gains'} {abs(points):.1f} points of"

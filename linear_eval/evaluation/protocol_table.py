"""The protocols of an evaluation side by side: one line per number, one column per contestant."""

from __future__ import annotations

from linear_eval.evaluation.protocols import PROTOCOLS, metrics_of
from linear_eval.evaluation.report import Row
from linear_eval.evaluation.text_table import aligned
from linear_eval.evaluators import EVALUATORS
from linear_eval.evaluators.headlines import columns_of
from linear_eval.system.printable import one_line


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

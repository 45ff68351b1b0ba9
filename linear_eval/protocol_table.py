"""The protocols of an evaluation side by side: one line per number, one column per contestant."""

from __future__ import annotations

from linear_eval.errors import one_line
from linear_eval.protocols import PROTOCOLS
from linear_eval.report import Row, headline_knn

_PROBE = "linear_probe/top1"


def protocol_lines(rows: list[Row], protocols: tuple[str, ...]) -> list[str]:
    """What each protocol calls the k-NN and the linear number; nothing if there are only ours.

    Args:
        rows: in the order of the table.
        protocols: names, in the order asked for.
    """
    if protocols == ("ours",):
        return []  # the main table shows them
    numbers = {}
    for name in protocols:
        prefix = PROTOCOLS[name].metric_prefix
        own = {key.removeprefix(prefix): key for key in rows[-1].metrics if _belongs(key, prefix)}
        for heading, key in (_knn(own), ("linear top-1", own.get(_PROBE))):
            if key:
                numbers[f"{name} {heading}"] = key
    indent = max(map(len, ["percent", *numbers]))
    titles = [one_line(row.contestant.title) for row in rows]
    lines = ["  ".join(["percent".ljust(indent), *titles])]
    for heading, key in numbers.items():
        cells = [
            f"{row.metrics[key]:{len(title)}.1f}" for title, row in zip(titles, rows, strict=True)
        ]
        lines.append("  ".join([heading.ljust(indent), *cells]))
    return lines


def _belongs(key: str, prefix: str) -> bool:
    return key.startswith(prefix) if prefix else key.split("/")[0] not in PROTOCOLS


def _knn(own: dict[str, str]) -> tuple[str, str | None]:
    """A protocol's headline: k = 20 if it has it, else its first k."""
    key = headline_knn(dict.fromkeys(own, 0.0))
    return ("", None) if key is None else (f"k-NN ({key.split('/')[1]})", own[key])

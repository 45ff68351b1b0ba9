"""The tables of the page: who, how good, with which interval, under which rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from linear_eval.evaluation.config import PIXELS
from linear_eval.evaluation.protocols import PROTOCOLS, metrics_of
from linear_eval.evaluation.tables import detail_metrics
from linear_eval.evaluators.headlines import columns_of
from linear_eval.report.contestants import Shown
from linear_eval.results.intervals import Interval

_SHOWN = 12  # characters of a digest that tell it from others


@dataclass(frozen=True)
class Cell:
    """A number in percent with its interval; `value` None: it was not measured."""

    value: float | None
    interval: Interval | None = None
    is_best: bool = False


@dataclass(frozen=True)
class Column:
    """A heading, the metric below it, and the protocol that it was measured under."""

    heading: str
    metric: str
    protocol: str


@dataclass(frozen=True)
class TableRow:
    """A contestant with its numbers, one for each column, and what identifies it."""

    shown: Shown
    cells: tuple[Cell, ...]
    stamp: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """All contestants on one data set.

    Attributes:
        data: in words: the data set, how many images, what identifies them.
        columns: the headline numbers.
        rows: one per contestant.
        details: numbers that the command prints in a table of their own; one per row.
        rules: protocol -> what about -> how it is done.
        interval_meaning: of all intervals.
    """

    data: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    details: tuple[Column, ...]
    rules: dict[str, dict[str, str]]
    interval_meaning: str

    @property
    def protocols(self) -> tuple[str, ...]:
        """Under which the columns were measured."""
        return tuple(dict.fromkeys(column.protocol for column in self.columns))

    def cell(self, shown: Shown, column: Column) -> Cell:
        """Of a column that is not among `columns`."""
        return _cell(shown, column.metric)


def tables_of(everyone: Sequence[Shown]) -> list[Table]:
    """One table for each data set, in the order of the first evaluation on it."""
    groups: dict[str, list[Shown]] = {}
    for each in everyone:
        groups.setdefault(each.results.data["fingerprint"], []).append(each)
    return [_table(group) for group in groups.values()]


def _table(group: Sequence[Shown]) -> Table:
    columns: dict[str, Column] = {}
    details: dict[str, Column] = {}
    rules: dict[str, dict[str, str]] = {}
    for each in group:
        num_classes = int(each.results.data.get("classes", 0))
        for protocol in each.results.protocols:
            for heading, key in columns_of(metrics_of(protocol, each.metrics), num_classes).items():
                metric = PROTOCOLS[protocol].metric_prefix + key
                columns.setdefault(metric, Column(heading, metric, protocol))
        for metric in detail_metrics(each.metrics):
            details.setdefault(metric, Column(metric, metric, ""))
        rules |= each.results.whole.get("protocol_rules") or {}
    first = group[0].results
    return Table(
        data=data_in_words(group),
        columns=tuple(columns.values()),
        rows=tuple(_row(each, group, tuple(columns)) for each in group),
        details=tuple(details.values()),
        rules=rules,
        interval_meaning=str(first.whole.get("interval_meaning", "95 %")),
    )


def _row(shown: Shown, group: Sequence[Shown], metrics: tuple[str, ...]) -> TableRow:
    cells = []
    for metric in metrics:
        best = max(each.metrics[metric] for each in group if metric in each.metrics)
        cell = _cell(shown, metric)
        is_best = cell.value is not None and cell.value == best and len(group) > 1
        cells.append(Cell(cell.value, cell.interval, is_best))
    return TableRow(shown, tuple(cells), _stamp(shown))


def _cell(shown: Shown, metric: str) -> Cell:
    return Cell(shown.metrics.get(metric), shown.intervals.get(metric))


def _stamp(shown: Shown) -> str:
    """What identifies the backbone, as far as the results say."""
    said = shown.backbone
    if not said or said.get("architecture") == PIXELS:
        return ""
    parts = [str(said.get("architecture"))]
    if said.get("sha256"):
        parts.append(f"sha256 {said['sha256'][:_SHOWN]}")
    if said.get("seed") is not None:
        parts.append(f"pretraining seed {said['seed']}")
    return ", ".join(parts)


def data_in_words(group: Sequence[Shown]) -> str:
    """The data set, its size, and what identifies it."""
    said = group[0].results.data
    return (
        f"{said.get('name', 'data')}: {_count(said.get('train_images'))} train images, "
        f"{_count(said.get('test_images'))} test images, {_count(said.get('classes'))} classes; "
        f"fingerprint {said['fingerprint'][:_SHOWN]}"
    )


def _count(number: object) -> str:
    return f"{number:,}" if isinstance(number, int) else "?"

"""Which of an evaluator's numbers are printed; each evaluator has one such record beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from linear_eval.evaluators.frequency import GROUPS


@dataclass(frozen=True)
class Column:
    """A column of the main table.

    Attributes:
        heading: `{}` stands for what the metric has at its `*`.
        metric: a key in which a `*` stands for anything between two slashes.
        prefers: of several metrics, the one with this at `*` is shown, or else the first.
        min_classes: with fewer, the number says little and has no column.
    """

    heading: str
    metric: str
    prefers: str = ""
    min_classes: int = 0

    def find(self, metrics: Iterable[str]) -> tuple[str, str] | None:
        """Heading and metric of the column; None if there is no such metric."""
        matches = [found for each in metrics if (found := matched(self.metric, each))]
        if not matches:
            return None
        shown = next((m for m in matches if self.prefers in m.groups()), matches[0])
        return self.heading.format(*shown.groups()), shown[0]


@dataclass(frozen=True, kw_only=True)
class Headline:
    """Where the numbers of one evaluator are found.

    Every metric is in a column, a detail, or named as being in results.json only: a test holds all
    evaluators to it. Patterns are as in `Column`.

    Attributes:
        columns: of the main table. The accuracy of a column by frequency of the classes (`/many`)
            is a detail.
        details: other metrics that have a line of the second table.
        in_results_only: metrics that no table shows (if they have no column).
    """

    columns: tuple[Column, ...] = ()
    details: tuple[str, ...] = ()
    in_results_only: tuple[str, ...] = ()


def matched(pattern: str, metric: str) -> re.Match[str] | None:
    """The match of a whole key; its groups are what stands at each `*`."""
    parts = [re.escape(part) for part in pattern.split("*")]
    return re.fullmatch("([^/]+)".join(parts), metric)


def with_groups(*predicted: str) -> tuple[str, ...]:
    """The accuracy of what predicts a class, over all classes and by their frequency."""
    return tuple(f"{each}/{part}" for each in predicted for part in ("top1", *GROUPS))

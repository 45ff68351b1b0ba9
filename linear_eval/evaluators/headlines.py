"""The headlines of all evaluators, in the order of the tables."""

from __future__ import annotations

from collections.abc import Iterable

from linear_eval.evaluators import EVALUATORS
from linear_eval.evaluators.frequency import GROUPS
from linear_eval.evaluators.headline import Headline, matched

HEADLINES = tuple(evaluator.headline for evaluator in EVALUATORS)


def columns_of(
    metrics: Iterable[str], num_classes: int, headlines: Iterable[Headline] = HEADLINES
) -> dict[str, str]:
    """Heading -> metric of the main table.

    Args:
        metrics: keys of one protocol, without its prefix.
        num_classes: decides whether top-5 is worth a column.
        headlines: of these evaluators.
    """
    keys = list(metrics)
    columns = [each for headline in headlines for each in headline.columns]
    worth_it = [each for each in columns if num_classes >= each.min_classes]
    return dict(found for each in worth_it if (found := each.find(keys)))


def details_of(metrics: Iterable[str]) -> list[str]:
    """The metrics that have a line of the second table; `metrics` as for `columns_of`."""
    keys = list(metrics)
    patterns = [pattern for headline in HEADLINES for pattern in headline.details]
    shown = [key for key in keys if any(matched(pattern, key) for pattern in patterns)]
    for column in columns_of(keys, num_classes=0).values():
        shown += [f"{column.removesuffix('/top1')}/{group}" for group in GROUPS]
    return [key for key in shown if key in keys]

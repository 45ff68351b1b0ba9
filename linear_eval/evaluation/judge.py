"""One contestant's row of the table: its features, then every evaluation of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from linear_eval.datasets.splits import EvaluationSplits
from linear_eval.evaluation.config import EvaluateConfig
from linear_eval.evaluation.contestants import Contestant
from linear_eval.evaluation.feature_tables import extract_tables
from linear_eval.evaluation.plan import needed_parts, stages, wants_views
from linear_eval.evaluation.row import Row
from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.evaluator import Asked
from linear_eval.evaluators.frequency import with_frequency
from linear_eval.features.table import not_checked
from linear_eval.images.batches import ImageBatches
from linear_eval.results.intervals import metric_intervals
from linear_eval.system.agreement import agreed
from linear_eval.system.distributed import is_main
from linear_eval.system.screen import say


def judge(
    contestant: Contestant,
    batches: dict[str, ImageBatches],
    splits: EvaluationSplits,
    config: EvaluateConfig,
    device: torch.device,
) -> Row:
    """Evaluate one contestant as the configuration says.

    Several processes call this together; the row of the main one is complete.

    Args:
        contestant: who.
        batches: images of every part of the data; shared by the processes.
        splits: the parts themselves.
        config: the whole evaluation.
        device: where to compute.

    Raises:
        InputError: an image cannot be read, or features are not finite.
    """
    row = Row(contestant)
    images = config.transform()
    shown = images.crop or images.resize
    if contestant.image_size is not None and shown not in (None, contestant.image_size):
        row.notes["images"] = note = (
            f"trained at {contestant.image_size} pixels, judged at {shown} as the config says; "
            f"for its own size set {_size_keys(config, contestant.image_size)}"
        )
        _say(row, note)
    with _timed(row, "features"):
        tables = agreed(
            partial(
                extract_tables,
                contestant,
                batches,
                config.features.open(contestant.path),
                parts=needed_parts(config, splits),
                passes=config.augmented_passes if wants_views(config) else 0,
                seed=config.seed,
                device=device,
                faster=config.speed.fastest,
            )
        )
    parts = tables.by_name
    row.read_from.update(
        {name: str(table.read_from) for name, table in parts.items() if table.read_from}
    )
    if unchecked := [name for name, table in parts.items() if not table.is_checked]:
        row.notes["features"] = not_checked(row.read_from[unchecked[0]])
    row.num_images.update({name: len(table.ids) for name, table in parts.items()})
    asked = stages(config)
    memo: dict[object, Any] = {}
    for stage in asked:
        evaluator = stage.evaluator
        if evaluator.trains_backbone and contestant.backbone is None:
            continue
        question = Asked(
            config=stage.config,
            tables=tables,
            device=device,
            batches=batches,
            splits=splits,
            pretrained=partial(
                contestant.pretrained, batches["train"], seed=config.seed, device=device
            ),
            alike=tuple(each.config for each in asked if each.evaluator is evaluator),
            memo=memo,
        )
        takes_part = evaluator.in_every_process or is_main()
        with _timed(row, stage.name):
            found = agreed(partial(evaluator.evaluate if takes_part else _nothing, question))
        if evaluator.predicts_classes and takes_part:
            of_train = splits.whole_labels if tables.train is None else tables.whole_labels
            found = with_frequency(found, of_train, tables.test.labels, config.frequency)
        row.add(found.prefixed(stage.protocol.metric_prefix))
    if not is_main():
        return row
    test = tables.test
    # images of one unseen class are found together, or not at all
    by_class = () if splits.shares_classes else tuple(row.metrics)
    scores = {name: score.double().numpy() for name, score in row.scores.items()}
    classes = test.labels.numpy()
    row.intervals.update(metric_intervals(row.metrics, scores, classes, by_class=by_class))
    return replace(row, test_ids=test.ids, test_labels=test.labels, by_class=frozenset(by_class))


def _size_keys(config: EvaluateConfig, size: int) -> str:
    one_key = config.image_size is not None
    return f"image_size={size}" if one_key else f"images.resize={size} images.crop={size}"


def _nothing(question: Asked[Any]) -> Evaluation:
    """Of a process that waits for the main one."""
    del question
    return Evaluation(metrics={})


@contextmanager
def _timed(row: Row, stage: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    row.seconds[stage] = round(time.monotonic() - start, 3)
    _say(row, f"{stage}, {row.seconds[stage]:.1f} s")


def _say(row: Row, what: str) -> None:
    """A line of progress where no terminal shows a bar."""
    if is_main() and not sys.stderr.isatty():
        say(f"{row.contestant.title}: {what}")

"""One contestant's row of the table: its features, then every evaluation of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.joined import joined_splits
from linear_eval.evaluation.config import EvaluateConfig
from linear_eval.evaluation.contestants import Contestant
from linear_eval.evaluation.evaluator_needs import needed_parts
from linear_eval.evaluation.feature_tables import FeatureTables, extract_tables
from linear_eval.evaluation.report import Row
from linear_eval.evaluation.splits import EvaluationSplits
from linear_eval.evaluation.stages import stages, wants_fine_tuning, wants_views
from linear_eval.evaluators.choosing import whole_of
from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.fine_tune import evaluate_fine_tune
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
    steps: dict[str, Callable[[], Evaluation]] = {
        name: partial(stage, tables, device) for name, stage in stages(config, splits).items()
    }
    if wants_fine_tuning(config) and contestant.backbone is not None:
        train = _readable_train(splits, tables)
        steps["fine_tune"] = partial(_fine_tune, contestant, batches, train, config, device)
    for name, evaluate in steps.items():
        with _timed(row, name):
            found = agreed(evaluate)
        row.metrics.update(found.metrics)
        row.scores.update(found.scores)
        row.predictions.update(found.predictions)
        row.notes.update(found.notes)
    if not is_main():
        return row
    test = tables.test
    # images of one unseen class are found together, or not at all
    by_class = () if splits.shares_classes else tuple(row.metrics)
    scores = {name: score.double().numpy() for name, score in row.scores.items()}
    labels = test.labels.numpy()
    row.intervals.update(metric_intervals(row.metrics, scores, labels, by_class=by_class))
    return replace(row, test_ids=test.ids, test_labels=test.labels, by_class=frozenset(by_class))


def _size_keys(config: EvaluateConfig, size: int) -> str:
    one_key = config.image_size is not None
    return f"image_size={size}" if one_key else f"images.resize={size} images.crop={size}"


def _fine_tune(
    contestant: Contestant,
    batches: dict[str, ImageBatches],
    train: ImageSplit,
    config: EvaluateConfig,
    device: torch.device,
) -> Evaluation:
    """By the main process alone."""
    if not is_main():
        return Evaluation(metrics={})
    return evaluate_fine_tune(
        contestant.pretrained(batches["train"], seed=config.seed, device=device),
        train,
        batches["test"],
        config.fine_tune,
        images=config.transform(),
        device=device,
    )


def _readable_train(splits: EvaluationSplits, tables: FeatureTables) -> ImageSplit:
    """Train with its hold-out, without the images that could not be read."""
    whole = joined_splits([part for part in (splits.train, splits.holdout) if part])
    read = {name for table in whole_of(tables.train, tables.holdout) for name in table.ids}
    kept = [row for row, name in enumerate(whole.ids) if name in read]
    return whole.select(torch.tensor(kept, dtype=torch.int64))


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

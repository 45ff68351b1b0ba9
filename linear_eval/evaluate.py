"""The flow of `linear-eval run`: check everything, compute features once, evaluate, report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from linear_eval.config import PIXELS, RANDOM, EvaluateConfig
from linear_eval.contestants import Contestant, open_contestants
from linear_eval.datasets.dataset import ImageSplit, joined_splits
from linear_eval.detail_table import detail_lines
from linear_eval.errors import InputError
from linear_eval.evaluators.choosing import FEW_PER_CLASS, whole_of
from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.fine_tune import check_fine_tune, evaluate_fine_tune
from linear_eval.evaluators.label_draws import check_draws
from linear_eval.features import collect_features
from linear_eval.images import ImageBatches, hold_in_memory
from linear_eval.judge import Tables, choices_of, knn_settings, stages, wants_fine_tuning
from linear_eval.protocol_table import protocol_lines
from linear_eval.protocols import PROTOCOLS
from linear_eval.report import Row, format_report, versions, write_results
from linear_eval.splits import EvaluationSplits, open_splits
from linear_eval.strict_config import to_yaml

RESULTS_FILE = "results.json"


def run(config: EvaluateConfig, notes: list[str]) -> None:
    """Judge a backbone and its baselines: print the table and write `results.json`.

    Args:
        config: the whole evaluation.
        notes: lines to be repeated below the table.

    Raises:
        InputError: anything wrong with the config, the files or the data; nothing was written.
    """
    start = time.monotonic()
    output = results_path(config)
    device = config.speed.open_device()
    contestants = open_contestants(config)
    splits = open_splits(config.data)
    check_sizes(config, splits)
    batches = _open_batches(config, splits)
    rows = [_judge(contestant, splits, batches, config, device) for contestant in contestants]
    notes = [*notes, *_remarks(rows, splits)]
    for line in [*protocol_lines(rows, config.protocols), *detail_lines(rows)]:
        print(line)
    print(format_report(rows, num_classes=len(splits.test.class_names), notes=notes))
    seconds = {**rows[-1].seconds, "total": time.monotonic() - start}
    results = _results(config, splits, rows)
    write_results(output, results | {"versions": versions(), "seconds": seconds})
    print(f"written: {output}")


def results_path(config: EvaluateConfig) -> Path:
    """Where `results.json` will go.

    Raises:
        InputError: there is no place to write it to.
    """
    if config.output is not None:
        output = Path(config.output)
        output = output / RESULTS_FILE if output.is_dir() else output
    elif config.backbone in (PIXELS, RANDOM):
        raise InputError(
            f"output: missing, backbone={config.backbone} has no folder for {RESULTS_FILE}; "
            f"add output=FILE.json"
        )
    else:
        output = Path(config.backbone).parent / RESULTS_FILE
    if not output.parent.is_dir():
        raise InputError(f"output: {output.parent}: no such folder; create it or set output")
    if not os.access(output.parent, os.W_OK):
        raise InputError(f"output: {output.parent}: cannot be written to; set output=FILE.json")
    return output


def check_sizes(config: EvaluateConfig, splits: EvaluationSplits) -> None:
    """Compare what the evaluators need with what the data have, before anything is computed.

    Raises:
        InputError: k is larger than the gallery, a recall rank than the test split, there is no
            hold-out to choose a learning rate on, or too few images for a draw of labels.
    """
    for prefix, knn in knn_settings(config).items():
        largest = max(knn.k)
        gallery = splits.gallery_size if knn.gallery == "train" else len(splits.test) - 1
        if largest > gallery:
            way_out = f"leave protocol '{prefix[:-1]}' out" if prefix else "lower knn.k"
            raise InputError(
                f"{prefix}knn.k: {largest} neighbours out of a gallery of {gallery} {knn.gallery} "
                f"images; {way_out} or raise data.max_images"
            )
    few = splits.gallery_size < FEW_PER_CLASS * len(splits.test.class_names)
    for name, choices in choices_of(config).items():
        if splits.holdout is None and choices > 1 and not few:
            raise InputError(
                f"data.holdout: {config.data.holdout:g} leaves no images to choose one of "
                f"{choices} settings of {name} on; set data.holdout=0.1, or give a single one"
            )
    train_labels = torch.cat([part.labels for part in (splits.train, splits.holdout) if part])
    if "low_shot" in config.evaluators:
        check_draws("low_shot", config.low_shot, train_labels)
    if "fine_tune" in config.evaluators:
        check_fine_tune(config.fine_tune, train_labels)
    others = len(splits.test) - 1
    furthest = max(config.retrieval.recall_at, default=1)
    if "retrieval" in config.evaluators and furthest > others:
        raise InputError(
            f"retrieval.recall_at: rank {furthest} among {others} other test images; "
            "lower retrieval.recall_at"
        )


def _open_batches(config: EvaluateConfig, splits: EvaluationSplits) -> dict[str, ImageBatches]:
    """Images of train, hold-out (where there is one) and test, decoded once where they fit."""
    parts = {"train": splits.train, "holdout": splits.holdout, "test": splits.test}
    return {
        name: hold_in_memory(
            ImageBatches(
                split=split,
                images=config.transform(),
                batch_size=config.batch_size,
                on_bad_image=config.data.on_bad_image,
            )
        )
        for name, split in parts.items()
        if split is not None
    }


def _judge(
    contestant: Contestant,
    splits: EvaluationSplits,
    batches: dict[str, ImageBatches],
    config: EvaluateConfig,
    device: torch.device,
) -> Row:
    row = Row(contestant)
    with (
        _timed(row, "features"),
        contestant.embedding(batches["train"], seed=config.seed, device=device) as embed,
    ):
        tables = {
            name: collect_features(embed, part, f"{contestant.title}: {name}")
            for name, part in batches.items()
        }
    row.num_images.update({name: len(table.ids) for name, table in tables.items()})
    judged = Tables(tables["train"], tables.get("holdout"), tables["test"])
    steps: dict[str, Callable[[], Evaluation]] = {
        name: partial(stage, judged, device) for name, stage in stages(config).items()
    }
    if wants_fine_tuning(config) and contestant.backbone is not None:
        train = _readable_train(splits, judged)
        steps["fine_tune"] = lambda: evaluate_fine_tune(
            contestant.pretrained(),
            train,
            batches["test"],
            config.fine_tune,
            images=config.transform(),
            device=device,
        )
    for name, evaluate in steps.items():
        with _timed(row, name):
            found = evaluate()
        row.metrics.update(found.metrics)
        row.scores.update(found.scores)
        row.predictions.update(found.predictions)
        row.notes.update(found.notes)
    return row


def _readable_train(splits: EvaluationSplits, tables: Tables) -> ImageSplit:
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


def _remarks(rows: list[Row], splits: EvaluationSplits) -> list[str]:
    """Lines for the reader of the table: what was skipped, and what the evaluators noted."""
    wanted = {"train": splits.train, "holdout": splits.holdout, "test": splits.test}
    skipped = {
        name: len(split) - rows[-1].num_images[name] for name, split in wanted.items() if split
    }
    lines = [
        f"{n} {name} images could not be read and were skipped" for name, n in skipped.items() if n
    ]
    for key in dict.fromkeys(key for row in rows for key in row.notes):
        said = {row.contestant.title: row.notes[key] for row in rows if key in row.notes}
        numbers = [
            f"{value:g} ({who})" for who, value in said.items() if not isinstance(value, str)
        ]
        lines += [f"{key}: {', '.join(numbers)}"] if numbers else []
        lines += [
            f"{key} ({who}): {value}" for who, value in said.items() if isinstance(value, str)
        ]
    return lines


def _results(config: EvaluateConfig, splits: EvaluationSplits, rows: list[Row]) -> dict[str, Any]:
    *others, main = rows
    # without a prefix, a number is one of ours; a results file without ours says so
    protocol = PROTOCOLS["ours" if "ours" in config.protocols else config.protocols[0]]
    settings = yaml.safe_load(to_yaml(config)) | {"images": asdict(config.transform())}
    num_test = main.num_images["test"]
    return {
        "metrics": main.metrics,
        "baselines": {row.contestant.key: row.metrics for row in others},
        "protocol": protocol.name,
        "protocol_rules": {name: PROTOCOLS[name].rules for name in config.protocols},
        "settings": {
            name: settings[name] for name in ("images", "seed", "frequency", *config.evaluators)
        },
        "backbone": {
            "architecture": main.contestant.architecture,
            "sha256": main.contestant.sha256,
        },
        "data": {
            "name": config.data.name,
            "classes": len(splits.test.class_names),
            "train_images": sum(main.num_images.values()) - num_test,
            "test_images": num_test,
            "fingerprint": splits.fingerprint,
        },
        "chosen": main.notes,
    }

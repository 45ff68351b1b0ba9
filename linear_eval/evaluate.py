"""The flow of `linear-eval run`: check everything, compute features once, evaluate, report."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from linear_eval.config import PIXELS, RANDOM, EvaluateConfig, Evaluator
from linear_eval.contestants import Contestant, open_contestants
from linear_eval.datasets.dataset import RetrievalTask
from linear_eval.errors import InputError
from linear_eval.evaluator_needs import check_sizes, needed_parts
from linear_eval.evaluators.judged_retrieval import evaluate_judged_retrieval
from linear_eval.evaluators.knn import evaluate_knn
from linear_eval.evaluators.linear_probe import evaluate_linear_probe
from linear_eval.evaluators.retrieval import evaluate_retrieval
from linear_eval.features import FeatureTable, collect_features
from linear_eval.images import ImageBatches, hold_in_memory
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
    rows = [_judge(contestant, batches, splits, config, device) for contestant in contestants]
    notes = [*notes, *_remarks(rows, splits)]
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


def _open_batches(config: EvaluateConfig, splits: EvaluationSplits) -> dict[str, ImageBatches]:
    """Images of every part, decoded once where they fit and are needed more than in passing."""
    needed = needed_parts(config, splits)
    batches = {
        name: ImageBatches(
            split=split,
            images=config.transform(),
            batch_size=config.batch_size,
            on_bad_image=config.data.on_bad_image,
        )
        for name, split in splits.parts.items()
    }
    # train is open in any case: BatchNorm statistics of a random backbone are calibrated on it
    return {
        name: hold_in_memory(part) if name in needed else part for name, part in batches.items()
    }


def _judge(
    contestant: Contestant,
    batches: dict[str, ImageBatches],
    splits: EvaluationSplits,
    config: EvaluateConfig,
    device: torch.device,
) -> Row:
    row = Row(contestant)
    with (
        _timed(row, "features"),
        contestant.embedding(batches["train"], seed=config.seed, device=device) as embed,
    ):
        tables = {
            name: collect_features(embed, batches[name], f"{contestant.title}: {name}")
            for name in needed_parts(config, splits)
        }
    row.num_images.update({name: len(table.ids) for name, table in tables.items()})
    for name in config.evaluators:
        with _timed(row, name):
            metrics, notes = _evaluate(name, tables, splits.retrieval, config, device)
        row.metrics.update(metrics)
        row.notes.update(notes)
    return row


def _evaluate(
    name: Evaluator,
    tables: dict[str, FeatureTable],
    task: RetrievalTask | None,
    config: EvaluateConfig,
    device: torch.device,
) -> tuple[dict[str, float], dict[str, float | str]]:
    train, holdout, test = tables.get("train"), tables.get("holdout"), tables["test"]
    if name == "retrieval":
        own = tables.get("gallery")
        if own is not None and task is not None and task.judgements is not None:
            return evaluate_judged_retrieval(test, own, task.judgements, device=device)
        return evaluate_retrieval(
            train, holdout, test, config.retrieval, own_gallery=own, device=device
        )
    assert train is not None, name
    if name == "knn":
        return evaluate_knn(train, holdout, test, config.knn, device=device)
    return evaluate_linear_probe(train, holdout, test, config.linear_probe, device=device)


@contextmanager
def _timed(row: Row, stage: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    row.seconds[stage] = round(time.monotonic() - start, 3)


def _remarks(rows: list[Row], splits: EvaluationSplits) -> list[str]:
    """Lines for the reader of the table: what was skipped, and what the evaluators noted."""
    skipped = {name: len(splits.parts[name]) - count for name, count in rows[-1].num_images.items()}
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
    protocol = PROTOCOLS[config.protocol]
    settings = yaml.safe_load(to_yaml(config)) | {"images": asdict(config.transform())}
    return {
        "metrics": main.metrics,
        "baselines": {row.contestant.key: row.metrics for row in others},
        "protocol": protocol.name,
        "protocol_rules": protocol.rules,
        "settings": {name: settings[name] for name in ("images", "seed", *config.evaluators)},
        "backbone": {
            "architecture": main.contestant.architecture,
            "sha256": main.contestant.sha256,
        },
        "data": {
            "name": config.data.name,
            "classes": len(splits.test.class_names),
            "train_images": sum(main.num_images.get(part, 0) for part in ("train", "holdout")),
            "test_images": main.num_images["test"],
            **({"gallery_images": n} if (n := main.num_images.get("gallery")) else {}),
            "fingerprint": splits.fingerprint,
        },
        "chosen": main.notes,
    }

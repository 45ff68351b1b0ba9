"""The flow of `linear-eval run`: check everything, compute features once, evaluate, report."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from numpy.typing import NDArray

from linear_eval.backbones.backbone_file import backbone_notes
from linear_eval.backbones.timm_models import is_timm
from linear_eval.datasets.decoding import ImageFileSettings
from linear_eval.datasets.splits import EvaluationSplits, open_splits, tell_notes
from linear_eval.evaluation.config import PIXELS, RANDOM, EvaluateConfig
from linear_eval.evaluation.contestants import Contestant, open_contestants
from linear_eval.evaluation.judge import judge
from linear_eval.evaluation.notes import read_from, run_notes
from linear_eval.evaluation.plan import check_stages, needed_parts
from linear_eval.evaluation.protocols import PROTOCOLS
from linear_eval.evaluation.row import Row
from linear_eval.evaluation.tables import detail_lines, format_report, protocol_lines
from linear_eval.features.shared_batches import share
from linear_eval.images.batches import ImageBatches
from linear_eval.images.held import hold_in_memory
from linear_eval.results.intervals import INTERVAL_MEANING
from linear_eval.results.own_results import (
    Judged,
    answers_differ,
    results_differ,
    write_results,
)
from linear_eval.results.per_image import PerImage, per_image_path, write_per_image
from linear_eval.results.results_file import RESULTS_FILE
from linear_eval.strict_config.reader import to_yaml
from linear_eval.system.agreement import agreed
from linear_eval.system.atomic_file import check_output, check_suffix
from linear_eval.system.distributed import is_main, own_gpu, world_size
from linear_eval.system.errors import InputError
from linear_eval.system.versions import versions


def run(
    config: EvaluateConfig, notes: list[str], *, verbose: bool = False, overwrite: bool = False
) -> None:
    """Judge a backbone and its baselines: print the table and write `results.json`.

    Several processes call this together: they share the images and the searches of k-NN and
    retrieval; the main one does the rest while the others wait, prints and writes.

    Args:
        config: the whole evaluation.
        notes: lines to be repeated below the table.
        verbose: whether all notes are printed, or the most important ones.
        overwrite: whether results of another backbone may be replaced, or any other file.

    Raises:
        InputError: anything wrong with the config, the files or the data; nothing was written but
            features, which the next run reads.
    """
    start = time.monotonic()
    # it may download the data
    first = agreed(lambda: _open(config, overwrite) if is_main() else None)
    asked = agreed(lambda: first or _open(config, overwrite))
    tell_notes(asked.splits.parts.values())
    batches = _open_batches(config, asked.splits)
    rows = [judge(each, batches, asked.splits, config, asked.device) for each in asked.contestants]
    agreed(
        lambda: _report(config, asked, rows, notes, start, verbose=verbose) if is_main() else None
    )


@dataclass(frozen=True, eq=False)
class _Asked:
    """What a configuration names, opened and checked."""

    output: Path
    overwrite: bool
    device: torch.device
    contestants: list[Contestant]
    splits: EvaluationSplits


def _open(config: EvaluateConfig, overwrite: bool) -> _Asked:
    device = config.speed.open_device()
    if device.type == "cuda" and world_size() > 1:
        device = own_gpu()
        torch.cuda.set_device(device)
    contestants = open_contestants(config)
    output = results_path(config)  # often beside the backbone, which a mistyped path would lack
    _check_outputs(output, contestants, config, overwrite)
    config.features.open(None)  # a folder that cannot be used is an error now, not later
    splits = open_splits(config.data)
    for split in splits.parts.values():
        config.features.check_outside(split.folder)
    check_stages(config, splits)
    return _Asked(output, overwrite, device, contestants, splits)


def _report(
    config: EvaluateConfig,
    asked: _Asked,
    rows: list[Row],
    notes: list[str],
    start: float,
    *,
    verbose: bool,
) -> None:
    splits = asked.splits
    stores = dict.fromkeys(config.features.open(each.path) for each in asked.contestants)
    kept = [line for store in stores for line in store.remarks()]
    skipped = {name: len(splits.parts[name]) - n for name, n in rows[-1].num_images.items()}
    first = [note for note in (splits.overlap_note(), splits.absent_note()) if note]
    files = [each.path for each in asked.contestants if each.path is not None]
    older = [note for path in files for note in backbone_notes(path)]
    notes = [*first, *notes, *run_notes(rows, skipped), *older]
    for line in [*protocol_lines(rows, config.protocols), *detail_lines(rows)]:
        print(line)
    num_classes = len(splits.test.class_names)
    said = [*notes, *read_from(rows), *kept]
    print(format_report(rows, num_classes=num_classes, notes=said, verbose=verbose))
    seconds = {**rows[-1].seconds, "total": time.monotonic() - start}
    results = _results(config, splits, rows) | {"notes": notes}
    # once more: another evaluation may have written there since
    _check_outputs(asked.output, asked.contestants, config, asked.overwrite)
    # the answers first: results.json, which names them and their digest, is what counts
    results |= {"per_image": write_per_image(asked.output, _per_image(config, rows, splits))}
    write_results(asked.output, results | {"versions": versions(), "seconds": seconds})
    print(f"written: {asked.output}, {results['per_image']['file']}")


def results_path(config: EvaluateConfig) -> Path:
    """Where `results.json` will go.

    Raises:
        InputError: there is no place to write it to.
    """
    if config.output is not None:
        output = Path(config.output)
        output = output / RESULTS_FILE if output.is_dir() else output
        check_suffix(output, "output", ".json")
    elif config.backbone in (PIXELS, RANDOM) or is_timm(config.backbone):
        raise InputError(
            f"output: missing, backbone={config.backbone} has no folder for {RESULTS_FILE}; "
            f"add output=FILE.json"
        )
    else:
        output = Path(config.backbone).parent / RESULTS_FILE
    return output


def _check_outputs(
    output: Path, contestants: list[Contestant], config: EvaluateConfig, overwrite: bool
) -> None:
    judged = _judged(contestants[-1], config)
    reads = {"one of the backbones": [each.path for each in contestants if each.path]}
    for path, differ in ((output, results_differ), (per_image_path(output), answers_differ)):
        differs = partial(differ, judged=judged)
        check_output(path, "output", overwrite=overwrite, reads=reads, differs=differs)


def _judged(main: Contestant, config: EvaluateConfig) -> Judged:
    seed = config.seed if main.key == RANDOM else None
    return Judged(main.architecture, main.sha256, seed)


def _open_batches(config: EvaluateConfig, splits: EvaluationSplits) -> dict[str, ImageBatches]:
    """Images of every part; those that are looked at again are decoded once, if they fit."""
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
        name: share(part, hold_in_memory) if name in needed else part
        for name, part in batches.items()
    }


def _per_image(config: EvaluateConfig, rows: list[Row], splits: EvaluationSplits) -> PerImage:
    main = rows[-1]
    return PerImage(
        ids=main.test_ids,
        labels=main.test_labels.numpy(),
        class_names=splits.test.class_names,
        judged=main.contestant.key,
        scores={row.contestant.key: _arrays(row.scores) for row in rows},
        predictions={row.contestant.key: _arrays(row.predictions) for row in rows},
        by_class=main.by_class,
        backbone=asdict(_judged(main.contestant, config)),
    )


def _arrays(columns: dict[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    return {name: column.cpu().numpy() for name, column in columns.items()}


def _results(config: EvaluateConfig, splits: EvaluationSplits, rows: list[Row]) -> dict[str, Any]:
    *others, main = rows
    # without a prefix, a number is one of ours; a results file without ours says so
    protocol = PROTOCOLS["ours" if "ours" in config.protocols else config.protocols[0]]
    settings = yaml.safe_load(to_yaml(config)) | {"images": asdict(config.transform())}
    if isinstance(config.data, ImageFileSettings):
        read = asdict(config.data.decoding)
        settings["images"] |= {key: read[key] for key in ("orientation", "white_level")}
    settings["features"].pop("folder")  # a place, not a setting of the numbers
    return {
        "metrics": main.metrics,
        "intervals": main.intervals,
        "interval_meaning": INTERVAL_MEANING,
        "baselines": {row.contestant.key: row.metrics for row in others},
        "baseline_intervals": {row.contestant.key: row.intervals for row in others},
        "protocol": protocol.name,
        "protocol_rules": {name: PROTOCOLS[name].rules for name in config.protocols},
        "settings": {
            name: settings[name]
            for name in ("images", "features", "seed", "frequency", *config.evaluators)
        },
        "backbone": {
            "architecture": main.contestant.architecture,
            "sha256": main.contestant.sha256,
            **({} if (seed := main.contestant.pretraining_seed) is None else {"seed": seed}),
        },
        "data": {
            "name": config.data.name,
            "classes": len(splits.test.class_names),
            "train_images": sum(main.num_images.get(part, 0) for part in ("train", "holdout")),
            "test_images": main.num_images["test"],
            **({"gallery_images": n} if (n := main.num_images.get("gallery")) else {}),
            "fingerprint": splits.fingerprint,
            "contents": splits.contents(),
        },
        "chosen": main.notes,
    }

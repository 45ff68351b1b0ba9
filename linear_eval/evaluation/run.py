"""The flow of `linear-eval run`: check everything, compute features once, evaluate, report."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from linear_eval.backbones.backbone_file import backbone_notes
from linear_eval.backbones.opened import OpenedBackbone
from linear_eval.backbones.timm_models import is_timm
from linear_eval.datasets.splits import EvaluationSplits, open_splits, tell_notes
from linear_eval.evaluation.config import PIXELS, RANDOM, EvaluateConfig
from linear_eval.evaluation.contestants import Contestant, open_contestants
from linear_eval.evaluation.judge import judge
from linear_eval.evaluation.notes import domain_notes, read_from, run_notes
from linear_eval.evaluation.outcome import answers_of, judged_of, results_of
from linear_eval.evaluation.plan import check_stages, needed_parts
from linear_eval.evaluation.row import Row
from linear_eval.evaluation.tables import detail_lines, format_report, protocol_lines
from linear_eval.features.shared_batches import share
from linear_eval.images.batches import ImageBatches
from linear_eval.images.held import hold_in_memory
from linear_eval.results.own_results import (
    answers_differ,
    results_differ,
    write_results,
)
from linear_eval.results.per_image import per_image_path, write_per_image
from linear_eval.results.results_file import RESULTS_FILE
from linear_eval.system.agreement import agreed
from linear_eval.system.atomic_file import check_output, check_suffix
from linear_eval.system.distributed import is_main, own_gpu, world_size
from linear_eval.system.errors import InputError
from linear_eval.system.screen import silenced
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
    rows, batches = [], _open_batches(config, asked.splits)
    for each in asked.contestants:
        rows.append(judge(each, batches, asked.splits, config, asked.device))  # noqa: PERF401

    def report() -> None:
        results, said = _finished(config, asked, rows, notes, start)
        _print_tables(config, asked, rows, said, verbose=verbose)
        _write(config, asked, rows, results, overwrite=overwrite)

    agreed(lambda: report() if is_main() else None)


def evaluate(
    config: EvaluateConfig, given: OpenedBackbone, notes: list[str], *, verbose: bool = False
) -> dict[str, Any]:
    """Judge a backbone that is at hand; no results are written.

    Args:
        config: the whole evaluation; its `backbone` is how this one is called.
        given: the backbone.
        notes: of whoever made the configuration.
        verbose: whether the tables, all notes and the progress are shown.

    Returns:
        What `results.json` would hold, but for the name of the file of answers per image.

    Raises:
        InputError: as `run`.
    """
    start = time.monotonic()
    with nullcontext() if verbose else silenced():
        asked = _open(config, overwrite=False, given=given)
        rows, batches = [], _open_batches(config, asked.splits)
        for each in asked.contestants:
            rows.append(judge(each, batches, asked.splits, config, asked.device))  # noqa: PERF401
    results, said = _finished(config, asked, rows, notes, start)
    if verbose:
        _print_tables(config, asked, rows, said, verbose=True)
    return results


@dataclass(frozen=True, eq=False)
class _Asked:
    """What a configuration names, opened and checked; no output where nothing is written."""

    output: Path | None
    device: torch.device
    contestants: list[Contestant]
    splits: EvaluationSplits


def _open(config: EvaluateConfig, overwrite: bool, given: OpenedBackbone | None = None) -> _Asked:
    device = config.speed.open_device()
    if device.type == "cuda" and world_size() > 1:
        device = own_gpu()
        torch.cuda.set_device(device)
    contestants = open_contestants(config, given)
    output = None
    if given is None:
        output = results_path(config)  # often beside the backbone, which a mistyped path would lack
        _check_outputs(output, contestants, config, overwrite)
    config.features.open(None)  # a folder that cannot be used is an error now, not later
    splits = open_splits(config.data)
    for split in splits.parts.values():
        config.features.check_outside(split.folder)
    check_stages(config, splits, contestants[-1])
    return _Asked(output, device, contestants, splits)


def _finished(
    config: EvaluateConfig, asked: _Asked, rows: list[Row], notes: list[str], start: float
) -> tuple[dict[str, Any], list[str]]:
    """All results but the name of the file of answers; and what is said below the table."""
    splits = asked.splits
    stores = dict.fromkeys(config.features.open(each.path) for each in asked.contestants)
    kept = [line for store in stores for line in store.remarks()]
    skipped = {name: len(splits.parts[name]) - n for name, n in rows[-1].num_images.items()}
    first = [note for note in (splits.overlap_note(), splits.absent_note()) if note]
    first = [*domain_notes(config.data, asked.contestants), *first]
    files = [each.path for each in asked.contestants if each.path is not None]
    older = [note for path in files for note in backbone_notes(path)]
    notes = [*first, *notes, *run_notes(rows, skipped), *older]
    seconds = {**rows[-1].seconds, "total": time.monotonic() - start}
    results = results_of(config, rows, splits) | {"notes": notes}
    results |= {"versions": versions(), "seconds": seconds}
    return results, [*notes, *read_from(rows), *kept]


def _print_tables(
    config: EvaluateConfig, asked: _Asked, rows: list[Row], said: list[str], *, verbose: bool
) -> None:
    for line in [*protocol_lines(rows, config.protocols), *detail_lines(rows)]:
        print(line)
    num_classes = len(asked.splits.test.class_names)
    print(format_report(rows, num_classes=num_classes, notes=said, verbose=verbose))


def _write(
    config: EvaluateConfig,
    asked: _Asked,
    rows: list[Row],
    results: dict[str, Any],
    *,
    overwrite: bool,
) -> None:
    assert asked.output is not None, "nothing to write to"
    # once more: another evaluation may have written there since
    _check_outputs(asked.output, asked.contestants, config, overwrite)
    # the answers first: results.json, which names them and their digest, is what counts
    answers = write_per_image(asked.output, answers_of(config, rows, asked.splits))
    write_results(asked.output, results | {"per_image": answers})
    print(f"written: {asked.output}, {answers['file']}")


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
    judged = judged_of(contestants[-1], config)
    reads = {"one of the backbones": [each.path for each in contestants if each.path]}
    for path, differ in ((output, results_differ), (per_image_path(output), answers_differ)):
        differs = partial(differ, judged=judged)
        check_output(path, "output", overwrite=overwrite, reads=reads, differs=differs)


def _open_batches(config: EvaluateConfig, splits: EvaluationSplits) -> dict[str, ImageBatches]:
    """Images of every part; those that are looked at again are decoded once, if they fit."""
    needed = needed_parts(config, splits)
    batches = {
        name: ImageBatches(
            split=split,
            images=config.transform(),
            batch_size=config.batch_size,
            on_bad_image=config.data.on_bad_image,
            max_bad=config.data.max_bad,
        )
        for name, split in splits.parts.items()
    }
    # train is open in any case: BatchNorm statistics of a random backbone are calibrated on it
    return {
        name: share(part, hold_in_memory) if name in needed else part
        for name, part in batches.items()
    }

"""The flow of `linear-eval quality`: how good features look without a single label."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from linear_eval.features.table import Embed, FeatureTable, collect_features
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.images.train_views import TrainView
from linear_eval.own_images.data_argument import SplitName
from linear_eval.own_images.feature_quality import alignment, rank_me, uniformity
from linear_eval.own_images.split_features import open_backbone_and_split
from linear_eval.results.own_results import Judged, quality_differs
from linear_eval.system.atomic_file import atomic_file, check_output, check_suffix, file_sha256
from linear_eval.system.printable import one_line, shortened
from linear_eval.system.versions import versions


def judge_quality(
    backbone: Path,
    data: str,
    overrides: Sequence[str],
    *,
    split_name: SplitName,
    output: Path | None,
    verbose: bool = False,
    overwrite: bool,
) -> None:
    """Print RankMe, alignment and uniformity; labels are not looked at.

    RankMe and uniformity are those of whole images, alignment that of two random resized crops of
    each, drawn from `seed`.

    Args:
        backbone: a backbone file.
        data: a config (path or packaged name), or a folder of images.
        overrides: `key=value` texts.
        split_name: which split.
        output: a JSON file, or None.
        verbose: whether all notes are printed.
        overwrite: whether a file that is not of the same backbone is replaced.

    Raises:
        InputError: any of these is wrong, or there are fewer than two images; nothing was written.
    """
    if output is not None:  # a place that takes no file, before anything is opened
        check_output(output, "--json", overwrite=True)
        check_suffix(output, "--json", ".json")
    opened = open_backbone_and_split(backbone, data, overrides, split_name=split_name)
    if output is not None:
        judged = Judged(opened.info.architecture, file_sha256(backbone))
        check_output(
            output,
            "--json",
            overwrite=overwrite,
            reads={"the backbone": [backbone]},
            differs=partial(quality_differs, judged=judged),
        )
    config = opened.config
    with opened.embedding() as embed:
        table = collect_features(embed, opened.batches, "whole images")
        opened.batches.check_skipped(table.ids)
        views = _two_views(embed, opened.batches, config.seed)
    features = table.features.to(opened.device)
    found = {
        "rankme": rank_me(features),
        "alignment": alignment(views[0].features, views[1].features),
        "uniformity": uniformity(features),
    }
    images, width = features.shape
    for line in _lines(found, largest_rank=min(images, width)):
        print(line)
    notes = opened.notes_on(table)
    for line in shortened([f"note: {one_line(note)}" for note in notes], verbose=verbose):
        print(line)
    if output is not None:
        description = {
            "metrics": found,
            "backbone": {
                "architecture": opened.info.architecture,
                "sha256": file_sha256(backbone),
            },
            "data": {
                "name": config.data.name,
                "split": split_name,
                "images": images,
                "fingerprint": opened.batches.split.fingerprint,
                "content": opened.batches.split.content_fingerprint(),
            },
            "feature_dim": width,
            "seed": config.seed,
            "notes": notes,
            "versions": versions(),
        }
        _write(output, description)


def _two_views(embed: Embed, batches: ImageBatches, seed: int) -> list[FeatureTable]:
    """Features of two crops of each image, of the size of what the backbone sees of whole ones."""
    size = min(next(iter(batches))[1].shape[-2:])
    return [
        collect_features(
            embed,
            batches.showing(
                TrainView(size=size, seed=seed, epoch=number).of(batches.split), EvalImages()
            ),
            f"view {number + 1}",
        )
        for number in (0, 1)
    ]


def _lines(found: dict[str, float], *, largest_rank: int) -> list[str]:
    meanings = {
        "rankme": f"directions that the features fill, 1 (collapsed) to {largest_rank}",
        "alignment": "mean squared distance of two views of an image, 0 (alike) to 4",
        "uniformity": "spread over the sphere, 0 (all in one point) down to about -4 (even)",
    }
    return [f"{name:<10}  {found[name]:8.3f}  {meaning}" for name, meaning in meanings.items()]


def _write(output: Path, description: dict[str, Any]) -> None:
    with atomic_file(output) as file:
        file.write((json.dumps(description, indent=2, allow_nan=False) + "\n").encode())
    print(f"written: {output}")

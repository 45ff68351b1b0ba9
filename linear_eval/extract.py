"""The flow of `linear-eval extract`: features of one split as a `.npy` file for one's own tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from linear_eval.atomic_file import atomic_file
from linear_eval.backbone_file import file_sha256, load_backbone
from linear_eval.data_argument import SplitName, load_data_argument, open_split
from linear_eval.errors import InputError
from linear_eval.features import FeatureTable, collect_features, frozen
from linear_eval.images import ImageBatches


def extract(
    backbone: Path,
    data: str,
    overrides: Sequence[str],
    *,
    split_name: SplitName,
    output: Path,
    overwrite: bool,
) -> None:
    """Write features (M, D) float32 to `output`, and names and labels to a JSON file beside it.

    Args:
        backbone: a backbone file.
        data: a config (path or packaged name), or a folder of images.
        overrides: `key=value` texts.
        split_name: which split.
        output: ends in `.npy`.
        overwrite: whether files that exist are replaced.

    Raises:
        InputError: any of these is wrong; nothing was written.
    """
    side_file = _check_output(output, overwrite)
    network, info = load_backbone(backbone)
    loaded = load_data_argument(backbone, data, overrides, info)
    config = loaded.value
    device = config.speed.open_device()
    split = open_split(config, split_name)
    batches = ImageBatches(
        split=split,
        images=config.transform(),
        batch_size=config.batch_size,
        on_bad_image=config.data.on_bad_image,
    )
    with frozen(network, mean=info.mean, std=info.std, device=device) as embed:
        table = collect_features(embed, batches, "extract")
    description = {
        "ids": table.ids,
        "labels": table.labels.tolist(),
        "class_names": split.class_names,
        "backbone": {"architecture": info.architecture, "sha256": file_sha256(backbone)},
        "data": {"name": config.data.name, "split": split_name, "fingerprint": split.fingerprint},
    }
    _write(output, side_file, table, description)
    for note in loaded.notes:
        print(f"note: {note}")
    if skipped := len(split) - len(table.ids):
        print(f"note: {skipped} of {len(split)} images could not be read and were skipped")
    rows, width = table.features.shape
    print(f"written: {output} ({rows} x {width}), {side_file}")


def _check_output(output: Path, overwrite: bool) -> Path:
    if output.suffix != ".npy":
        raise InputError(
            f"--output: '{output}' does not end in .npy; give a path such as features.npy"
        )
    side_file = output.with_suffix(".json")
    if not output.parent.is_dir():
        raise InputError(f"--output: {output.parent}: no such folder; create it first")
    for path in (output, side_file):
        if path.exists() and not overwrite:
            raise InputError(f"--output: {path} exists; choose another name or add --overwrite")
    return side_file


def _write(output: Path, side_file: Path, table: FeatureTable, description: dict[str, Any]) -> None:
    with atomic_file(side_file) as file:
        file.write(json.dumps(description).encode())
    with atomic_file(output) as file:  # last: it is the one that looks finished
        np.save(file, table.features.numpy())

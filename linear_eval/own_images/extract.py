"""The flow of `linear-eval extract`: features of one split as a `.npy` file for one's own tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from linear_eval.features.table import FeatureTable
from linear_eval.own_images.data_argument import SplitName
from linear_eval.own_images.split_features import extract_split
from linear_eval.system.atomic_file import atomic_file, check_output, check_suffix
from linear_eval.system.printable import one_line, shortened


def extract(
    backbone: Path,
    data: str,
    overrides: Sequence[str],
    *,
    split_name: SplitName,
    output: Path,
    overwrite: bool,
    verbose: bool = False,
) -> None:
    """Write features (M, D) to `output`, and names and labels to a JSON file beside it.

    They are float32, or what `features.dtype` says, and kept in a feature store on the way.

    Args:
        backbone: a backbone file.
        data: a config (path or packaged name), or a folder of images.
        overrides: `key=value` texts.
        split_name: which split.
        output: ends in `.npy`.
        overwrite: whether files that exist are replaced.
        verbose: whether all notes are printed.

    Raises:
        InputError: any of these is wrong; nothing was written.
    """
    side_file = _check_output(output, backbone, overwrite)
    found = extract_split(backbone, data, overrides, split_name=split_name)
    description = {
        "ids": found.table.ids,
        "labels": found.table.labels.tolist(),
        "class_names": found.split.class_names,
        "backbone": {"architecture": found.backbone.architecture, "sha256": found.backbone_sha256},
        "data": {
            "name": found.config.data.name,
            "split": split_name,
            "fingerprint": found.split.fingerprint,
            "content": found.content,
        },
    }
    _write(output, side_file, found.table, description)
    notes = [f"note: {one_line(note)}" for note in found.notes]
    for line in shortened(notes, verbose=verbose):
        print(line)
    rows, width = found.table.features.shape
    print(f"written: {output} ({rows} x {width}), {side_file}")


def _check_output(output: Path, backbone: Path, overwrite: bool) -> Path:
    check_suffix(output, "--output", ".npy")
    side_file = output.with_suffix(".json")
    for path in (output, side_file):
        check_output(path, "--output", overwrite=overwrite, reads={"the backbone": [backbone]})
    return side_file


def _write(output: Path, side_file: Path, table: FeatureTable, description: dict[str, Any]) -> None:
    # both or, where the disk is full, neither; FILE.npy, which looks finished, appears last
    with atomic_file(output) as array:
        np.save(array, table.features.numpy())
        array.flush()
        with atomic_file(side_file) as text:
            text.write(json.dumps(description).encode())

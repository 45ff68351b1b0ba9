"""The flow of `linear-eval extract`: features of one split as a `.npy` file for one's own tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from linear_eval.atomic_file import atomic_file
from linear_eval.backbone_file import BackboneInfo, file_sha256, load_backbone
from linear_eval.config import EvaluateConfig
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.selection import limit_images
from linear_eval.errors import InputError
from linear_eval.feature_store import file_weights
from linear_eval.features import FeatureTable, frozen
from linear_eval.images import ImageBatches
from linear_eval.strict_config import LoadedConfig, load_config, parse_config

SplitName = Literal["train", "test"]


def extract(
    backbone: Path,
    data: str,
    overrides: Sequence[str],
    *,
    split_name: SplitName,
    output: Path,
    overwrite: bool,
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

    Raises:
        InputError: any of these is wrong; nothing was written.
    """
    side_file = _check_output(output, overwrite)
    network, info = load_backbone(backbone)
    sha256 = file_sha256(backbone)
    loaded = _load(backbone, data, overrides, info)
    config = loaded.value
    store = config.features.open(backbone)
    device = config.speed.open_device()
    split = _open_split(config, split_name)
    batches = ImageBatches(
        split=split,
        images=config.transform(),
        batch_size=config.batch_size,
        on_bad_image=config.data.on_bad_image,
    )
    with frozen(network, mean=info.mean, std=info.std, device=device) as embed:
        table = store.table(file_weights(sha256), embed, batches, "extract")
    description = {
        "ids": table.ids,
        "labels": table.labels.tolist(),
        "class_names": split.class_names,
        "backbone": {"architecture": info.architecture, "sha256": sha256},
        "data": {"name": config.data.name, "split": split_name, "fingerprint": split.fingerprint},
    }
    _write(output, side_file, table, description)
    for note in loaded.notes:
        print(f"note: {note}")
    if table.read_from:
        print(f"note: features: read from {table.read_from}")
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


def _load(
    backbone: Path, data: str, overrides: Sequence[str], info: BackboneInfo
) -> LoadedConfig[EvaluateConfig]:
    given = ["backbone=" + json.dumps(str(backbone)), *overrides]
    if not Path(data).is_dir():
        return load_config(EvaluateConfig, data, given, packaged="evaluate")
    folder: dict[str, Any] = {"data": {"name": "image_folder", "root": data}}
    if not any(text.startswith(("images.", "image_size=")) for text in overrides):
        folder["image_size"] = info.image_size  # a folder says nothing about sizes; the file does
    return parse_config(EvaluateConfig, folder, given)


def _open_split(config: EvaluateConfig, split_name: SplitName) -> ImageSplit:
    if split_name == "test":
        split = config.data.open_test()
    else:
        split = limit_images(config.data.open_train(), config.data.max_images)
    if not len(split):
        raise InputError(f"data: the {split_name} split is empty; look at data.root")
    return split


def _write(output: Path, side_file: Path, table: FeatureTable, description: dict[str, Any]) -> None:
    with atomic_file(side_file) as file:
        file.write(json.dumps(description).encode())
    with atomic_file(output) as file:  # last: it is the one that looks finished
        np.save(file, table.features.numpy())

"""The data argument of `extract` and `quality`: a config, or just a folder of images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.image_folder import ImageFolderConfig
from linear_eval.datasets.selection import open_selected_train
from linear_eval.datasets.split_folders import find_train
from linear_eval.datasets.splits import tell_notes
from linear_eval.evaluation.config import EvaluateConfig
from linear_eval.strict_config.reader import LoadedConfig, load_config, parse_config
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable

SplitName = Literal["train", "test"]


def load_data_argument(
    backbone: Path, data: str, overrides: Sequence[str], info: BackboneInfo
) -> LoadedConfig[EvaluateConfig]:
    """The whole configuration for one backbone file and `data`.

    Args:
        backbone: path of the backbone file.
        data: a config (path or packaged name), or a folder of images, which is read at the size
            that the backbone was trained on unless the overrides say otherwise.
        overrides: `key=value` texts.
        info: what the backbone file says.

    Raises:
        InputError: any of these is wrong.
    """
    given = ["backbone=" + json.dumps(str(backbone)), *overrides]
    if not Path(data).is_dir():
        return load_config(EvaluateConfig, data, given, packaged="evaluate")
    folder: dict[str, Any] = {"data": {"name": "image_folder", "root": data}}
    if not any(text.startswith(("images.", "image_size=")) for text in overrides):
        folder["image_size"] = info.image_size  # a folder says nothing about sizes; the file does
    return parse_config(EvaluateConfig, folder, given)


def open_split(config: EvaluateConfig, split_name: SplitName) -> ImageSplit:
    """Test, or train at the size that the configuration asks for; says which of them it took.

    Raises:
        InputError: there are no images.
    """
    is_test = split_name == "test"
    split = config.data.open_test() if is_test else open_selected_train(config.data)
    if not len(split):
        raise InputError(f"data: the {split_name} split is empty; look at data.root")
    tell_notes([split])
    if not _is_whole_folder(config):
        other = "train" if is_test else "test"
        place = f" of {printable(str(split.folder))}" if split.folder else ""
        print(
            f"note: took the {split_name} split, {len(split)} images{place}; --split {other} "
            "takes the other",
            flush=True,
        )
    return split


def _is_whole_folder(config: EvaluateConfig) -> bool:
    """Whether the data are a folder without train/ and val/, all of whose images are taken."""
    data = config.data
    return isinstance(data, ImageFolderConfig) and find_train(Path(data.root).expanduser()) is None

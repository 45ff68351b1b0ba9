"""The config that a run was started with, read again by commands that go on from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from linear_eval.strict_config.reader import load_config
from linear_eval.system.errors import InputError
from ssl_bf.config import PretrainConfig
from ssl_bf.run.directory import CONFIG_FILE

IMAGE_ORDER = {"image_order": "bijection"}  # kept in checkpoints; earlier versions kept none


def saved_config(directory: Path, overrides: Sequence[str] = ()) -> PretrainConfig:
    """The config of the run in `directory`, with overrides.

    Raises:
        InputError: the directory holds no run, or its config is not valid.
    """
    file = directory / CONFIG_FILE
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; give the directory of a run")
    if not file.is_file():
        raise InputError(
            f"{directory}: holds no run ({CONFIG_FILE} is missing), expected a directory written "
            "by `ssl-bf pretrain`; give the directory of a run"
        )
    as_then = earlier_reading(file)
    return load_config(PretrainConfig, str(file), [*as_then, *overrides], packaged="pretrain").value


def earlier_reading(file: Path) -> list[str]:
    """Overrides for a run of an earlier version: images are read as when there was no key for it.

    Args:
        file: `config.yaml` of a run; whoever loads it says what is wrong with it.
    """
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return []
    data = found.get("data") if isinstance(found, dict) else None
    if not isinstance(data, dict) or data.get("name") != "image_folder" or "orientation" in data:
        return []
    return ["data.orientation=stored"]


def check_order(saved: Mapping[str, Any]) -> None:
    """Refuse to go on with a run whose images came in the order of an earlier version.

    Args:
        saved: state of a checkpoint.

    Raises:
        InputError: its order is another than `IMAGE_ORDER`; the message lacks the name of the run.
    """
    if any(saved.get(key) != value for key, value in IMAGE_ORDER.items()):
        raise InputError(
            "was begun by a version that gave the images another order, expected that of this "
            "version; go on with the version that began it, or start a new run"
        )

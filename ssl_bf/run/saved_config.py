"""The config that a run was started with, for `resume` and `export`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from linear_eval.strict_config.reader import parse_config
from linear_eval.strict_config.source import read_config_file
from linear_eval.system.errors import InputError
from ssl_bf.config import PretrainConfig
from ssl_bf.run.directory import CONFIG_FILE

IMAGE_ORDER = {"image_order": "bijection"}  # kept in checkpoints; earlier versions kept none

# Keys of `relation:` that these relations had and ignored.
IGNORED = {
    "copy": {"parameters", "lr_scale", "key_dropout", "context"},
    "dropout_only": {"parameters", "lr_scale", "context"},
    "self_only": {"context"},
}
# Keys of `run:` and what they are called by now.
RENAMED = {"checkpoint_every": "save_every", "keep_checkpoints": "keep_last"}


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
    mapping = with_new_names(without_ignored_keys(read_config_file(str(file), "pretrain")))
    return parse_config(PretrainConfig, mapping, [*earlier_reading(file), *overrides]).value


def without_ignored_keys(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same without the keys that had no effect and are unknown by now."""
    relation = mapping.get("relation")
    ignored = IGNORED.get(str(relation.get("name")), ()) if isinstance(relation, dict) else ()
    if not isinstance(relation, dict) or not ignored:
        return mapping
    return {**mapping, "relation": {k: v for k, v in relation.items() if k not in ignored}}


def with_new_names(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same with the keys of `run:` that had another name, and epochs that had no unit."""
    run = mapping.get("run")
    if not isinstance(run, dict):
        return mapping
    renamed = {RENAMED.get(name, name): value for name, value in run.items()}
    if "checkpoint_every" in run:
        renamed["save_every"] = f"{run['checkpoint_every']}epochs"
    return {**mapping, "run": renamed}


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

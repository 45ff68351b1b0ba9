"""What the config of a run that an earlier version began says otherwise, and what it meant then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from linear_eval.strict_config.reader import parse_config
from linear_eval.strict_config.source import read_config_file
from ssl_bf.config import PretrainConfig

# Keys of `relation:` that these relations had and ignored.
IGNORED = {
    "copy": {"parameters", "lr_scale", "key_dropout", "context"},
    "dropout_only": {"parameters", "lr_scale", "context"},
    "self_only": {"context"},
}


def load_run_config(file: Path, overrides: Sequence[str]) -> PretrainConfig:
    """`config.yaml` of a run, as the version that began it understood it.

    Raises:
        ConfigError: what is wrong with it, or with the overrides.
    """
    mapping = without_ignored_keys(read_config_file(str(file), "pretrain"))
    return parse_config(PretrainConfig, mapping, [*earlier_reading(file), *overrides]).value


def without_ignored_keys(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same without the keys that had no effect and are unknown by now."""
    relation = mapping.get("relation")
    ignored = IGNORED.get(str(relation.get("name")), ()) if isinstance(relation, dict) else ()
    if not isinstance(relation, dict) or not ignored:
        return mapping
    return {**mapping, "relation": {k: v for k, v in relation.items() if k not in ignored}}


def earlier_reading(file: Path) -> list[str]:
    """Overrides that read images as they were read when there was no key for it.

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

"""What a command can refuse without torch, which takes seconds to load."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from linear_eval.system.errors import InputError

_CONFIG = "ssl_bf.config"
_YAML = (".yaml", ".yml")


def check_config(source: str, overrides: Sequence[str], for_missing: str | None = None) -> None:
    """Refuse wrong keys, names and types of a pretraining config; see `load_config`.

    Raises:
        ConfigError: one line with everything of that kind.
    """
    from linear_eval.strict_config.from_source import defined
    from linear_eval.strict_config.reader import load_config

    config_class = defined(_CONFIG, "PretrainConfig")
    load_config(config_class, source, overrides, packaged="pretrain", for_missing=for_missing)


def check_key(key: str) -> None:
    """Refuse to explain a key that a pretraining config does not have.

    Raises:
        ConfigError: names the nearest.
    """
    from linear_eval.strict_config.explained import found_keys
    from linear_eval.strict_config.from_source import defined

    found_keys(defined(_CONFIG, "PretrainConfig"), key)


def check_packing(given: str, output: Path, overrides: Sequence[str]) -> None:
    """Refuse what `ssl-bf pack` cannot pack: a wrong config, or a folder that is none.

    Raises:
        ConfigError: one line on wrong keys, names and types.
        InputError: a store that has no name, or a folder that is not there.
    """
    from linear_eval.strict_config.from_source import defined
    from linear_eval.strict_config.reader import parse_config

    if output.name in ("", ".."):
        raise InputError(f"{output}: expected a folder of its own for the store; give it a name")
    if Path(given).is_dir():
        of_folder = defined("ssl_bf.pixels.source", "FolderConfig")
        parse_config(of_folder, folder_config(given), overrides)
    elif os.sep in given and not Path(given).exists() and Path(given).suffix not in _YAML:
        raise InputError(
            f"{given}: no such folder, expected one of images, or a config; look at it"
        )
    else:
        check_config(given, overrides)


def folder_config(root: str) -> dict[str, dict[str, str]]:
    """What a config says of a folder of images that none names."""
    return {"data": {"name": "image_folder", "root": root}}


def check_run(directory: Path, overrides: Sequence[str] = ()) -> None:
    """Refuse what is no directory, and keys that cannot change while a run goes on.

    Raises:
        InputError: the directory, or the key.
    """
    from linear_eval.strict_config.from_source import defined

    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; give the directory of a run")
    resumable, at_start = (defined(_CONFIG, name) for name in ("RESUMABLE", "ONLY_AT_START"))
    for key in (text.partition("=")[0] for text in overrides):
        if not key.startswith(resumable) or key in at_start:
            raise InputError(
                f"{key}: cannot change while a run goes on, expected one of speed.* (not like), "
                "run.* (not directory, overwrite), data.root, data.on_bad_image and data.max_bad; "
                "start a new run"
            )

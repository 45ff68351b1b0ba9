"""What the config of a run that an earlier version began does not say, and what it meant then."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from linear_eval.system.errors import InputError

IMAGE_ORDER = {"image_order": "bijection"}  # kept in checkpoints; earlier versions kept none


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

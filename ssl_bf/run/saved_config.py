"""What the config of a run that an earlier version began does not say, and what it meant then."""

from __future__ import annotations

from pathlib import Path

import yaml


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

"""A configuration for files that are passed on: `???` for every place on this machine."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

LEFT_OUT = "???"  # as `--show` writes what must be given
_PATH = re.compile(r"[/\\~]")


def without_places(
    plain: dict[str, Any], places: Collection[str], names: Collection[str] = ()
) -> dict[str, Any]:
    """The same mapping with `???` for every text that is, or may be, a place.

    Args:
        plain: nested mappings, as YAML has them.
        places: dotted keys whose texts are places; elsewhere those with a slash are.
        names: texts that are none, whatever their key.
    """

    def shared(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {name: shared(inner, f"{key}.{name}") for name, inner in value.items()}
        if isinstance(value, list):
            return [shared(each, key) for each in value]
        if not isinstance(value, str) or value in names:
            return value
        return LEFT_OUT if key.removeprefix(".") in places or _PATH.search(value) else value

    found: dict[str, Any] = shared(plain, "")
    return found

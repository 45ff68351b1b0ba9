"""The digest that a `results.json` carries, and text in it that would move the cursor."""

from __future__ import annotations

import hashlib
import json
from typing import Any

DIGEST = "digest"
_NAMED = ("metrics", "protocol", "protocol_rules", "settings", "backbone", "data")


def sealed(results: dict[str, Any]) -> dict[str, Any]:
    """The same with `digest`: sha256 of everything else, as JSON with sorted keys."""
    return results | {DIGEST: _digest(results)}


def seal_problem(found: dict[str, Any]) -> str | None:
    """What is wrong with a digest that is there; None also where there is none."""
    if DIGEST not in found or found[DIGEST] == _digest(found):
        return None
    return "was changed after it was written (its digest does not fit)"


def unprintable(found: dict[str, Any]) -> str | None:
    """What is wrong with names that are printed: control characters would write elsewhere."""
    for key in _NAMED:
        if not is_plain(found.get(key)):
            return f"has control characters in '{key}'"
    return None


def _digest(results: dict[str, Any]) -> str:
    rest = {key: value for key, value in results.items() if key != DIGEST}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def is_plain(value: Any) -> bool:
    """Whether no text in a JSON value, keys included, has control characters."""
    if isinstance(value, str):
        return value.isprintable()
    if isinstance(value, dict):
        return all(is_plain(key) and is_plain(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return True

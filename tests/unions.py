"""The members of a union of configs, as users name them."""

import dataclasses
from typing import Any, get_args


def members_of(union: Any) -> dict[str, Any]:
    """Config classes by the `name` that chooses them."""
    return {str(_keys(member)["name"].default): member for member in get_args(union)}


def small(member: Any, **keys: Any) -> Any:
    """A config with those of the keys that it has; the others keep their defaults."""
    return member(**{name: value for name, value in keys.items() if name in _keys(member)})


def _keys(member: Any) -> dict[str, dataclasses.Field[Any]]:
    return {each.name: each for each in dataclasses.fields(member)}


LABELLED = ("classifier", "metric", "moco_v2_paco")  # methods that refuse related keys

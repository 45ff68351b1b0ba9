"""Overrides of a configuration as a Python program has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from linear_eval.system.errors import InputError


def override_texts(overrides: Mapping[str, Any]) -> list[str]:
    """Dotted keys and their values as the texts `key=value` of a command line.

    Args:
        overrides: such as {"epochs": 5, "knn.k": [1, 20]}; values are what YAML can say.

    Raises:
        InputError: a value is something else.
    """
    if not isinstance(overrides, Mapping):
        raise InputError(
            f"overrides: is a {type(overrides).__name__}, expected a dict such as {{'epochs': 5}}"
        )
    return [f"{key}={_text(key, value)}" for key, value in overrides.items()]


def _text(key: str, value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    plain = str(value) if isinstance(value, Path) else plain
    try:
        text = yaml.safe_dump(plain, default_flow_style=True, width=float("inf"))
    except yaml.YAMLError as error:
        raise InputError(
            f"{key}: is a {type(value).__name__}, expected a number, text, or a list of these; "
            "give it as in a config file"
        ) from error
    return text.removesuffix("\n").removesuffix("\n...")

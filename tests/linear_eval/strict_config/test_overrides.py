"""Values of a Python program as the texts of a command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from linear_eval.strict_config.overrides import override_texts
from linear_eval.strict_config.reader import parse_config
from linear_eval.system.errors import InputError


@dataclass(frozen=True)
class Config:
    number: int = 0
    rate: float = 0.0
    name: str = ""
    flag: bool = False
    some: tuple[float, ...] = ()
    maybe: str | None = "x"


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("number", 5, 5),
        ("rate", 1e-5, 1e-5),
        ("rate", 3, 3.0),
        ("name", "007", "007"),
        ("name", "true", "true"),
        ("name", "a: [b], #c=d\u00e9", "a: [b], #c=d\u00e9"),
        ("name", Path("/a b/c"), "/a b/c"),
        ("name", "x" * 200 + " y" * 200, "x" * 200 + " y" * 200),
        ("flag", True, True),
        ("some", (1, 2.5), (1.0, 2.5)),
        ("some", [1], (1.0,)),
        ("maybe", None, None),
    ],
)
def test_a_value_is_read_back(key: str, value: Any, read: Any) -> None:
    config = parse_config(Config, {}, override_texts({key: value})).value
    assert getattr(config, key) == read


def test_what_yaml_cannot_say_is_refused() -> None:
    with pytest.raises(InputError, match="name: is a object, expected a number, text"):
        override_texts({"name": object()})

"""Tests of linear_eval.strict_config.from_source; test_before_torch has those of all configs."""

import dataclasses
import sys
from pathlib import Path

import pytest

from linear_eval.strict_config import from_source
from linear_eval.strict_config.from_source import defined

SOURCE = """
import math
from dataclasses import dataclass, field
from typing import Literal

from linear_eval.strict_config.types import Plain as Text

Kind = Literal["a", "b"]
HALF = 0.5
if HALF:
    HIDDEN = 3


def five() -> int:
    return 5


class Beside:
    loaded = print("the module was run")


@dataclass(frozen=True, kw_only=True)
class First:
    kind: Kind = "a"

    def __post_init__(self) -> None:
        raise ValueError("never here")


@dataclass(frozen=True, kw_only=True)
class Second(First):
    share: float = HALF
    most: float = math.inf
    first: First = field(default_factory=First)
    text: type = Text
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a package of ours."""
    package = tmp_path / "made_up"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "config.py").write_text(SOURCE)
    monkeypatch.setattr(from_source, "_ROOT", tmp_path)
    monkeypatch.setattr(from_source, "_OURS", ("made_up",))
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("made_up", "made_up.config"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    defined.cache_clear()
    from_source._statements.cache_clear()
    return "made_up.config"


def test_fields_come_with_types_and_defaults_and_without_methods(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    second = defined(module, "Second")()
    assert [each.name for each in dataclasses.fields(second)] == [
        *("kind", "share", "most", "first", "text")
    ]
    assert (second.share, second.most, second.first.kind) == (0.5, float("inf"), "a")
    assert defined(module, "Second").__mro__[1] is defined(module, "First")
    assert capsys.readouterr().out == ""
    assert module not in sys.modules


@pytest.mark.parametrize(("name", "value"), [("HIDDEN", 3), ("five", 5)])
def test_what_comes_in_another_way_is_imported(
    module: str, name: str, value: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found = defined(module, name)
    assert (found() if callable(found) else found) == value
    assert "the module was run" in capsys.readouterr().out

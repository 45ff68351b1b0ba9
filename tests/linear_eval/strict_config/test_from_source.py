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
class Nested:
    @dataclass(frozen=True)
    class Inner:
        x: int = 1

    inner: Inner = Inner()


@dataclass(frozen=True, kw_only=True)
class First:
    kind: Kind = "a"

    def __post_init__(self) -> None:
        raise ValueError("never here")


@dataclass(frozen=True, kw_only=True)
class Second(First):
    LEAST = 2
    least: int = LEAST
    sizes: tuple[int, ...] = tuple(each * 2 for each in (1, 2))
    name: str = field(default_factory=lambda: "x".join(each for each in ("a", "b")))
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
        *("kind", "least", "sizes", "name", "share", "most", "first", "text")
    ]
    assert (second.least, second.sizes, second.name) == (2, (2, 4), "axb")
    assert (second.share, second.most, second.first.kind) == (0.5, float("inf"), "a")
    assert defined(module, "Second").__mro__[1] is defined(module, "First")
    assert capsys.readouterr().out == ""
    assert module not in sys.modules


@pytest.mark.parametrize(("name", "value"), [("HIDDEN", 3), ("five", 5), ("Nested", None)])
def test_what_comes_in_another_way_is_imported(
    module: str, name: str, value: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    found = defined(module, name)
    if value is None:
        assert found().inner.x == 1
    else:
        assert (found() if callable(found) else found) == value
    assert "the module was run" in capsys.readouterr().out


def test_without_sources_the_module_is_imported(
    module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(from_source, "_ROOT", tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="never here"):  # methods and all
        defined(module, "Second")()
    assert module in sys.modules

"""Tests of linear_eval.strict_config.explained and meanings: what is said about one key."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from linear_eval.evaluation.config import EvaluateConfig
from linear_eval.strict_config.explained import every_key, explain
from linear_eval.strict_config.meanings import meaning_of
from linear_eval.system.errors import ConfigError
from ssl_bf.config import PretrainConfig


@dataclass(frozen=True, kw_only=True)
class _Base:
    """Another.

    Attributes:
        inherited: said by the base,
            over two lines.

    Source: not a key.
    """

    inherited: int = 1


@dataclass(frozen=True, kw_only=True)
class _Left(_Base):
    """What turns left."""

    name: Literal["left"] = "left"
    angle: float = 0.5  # in turns
    # above its line,
    # over two
    many: tuple[int, ...] = (1, 2)
    bare: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.angle <= 1:
            raise ValueError(f"angle: must be above 0 and at most 1, got {self.angle}")


@dataclass(frozen=True, kw_only=True)
class _Right:
    """What turns right."""

    name: Literal["right"] = "right"
    angle: float = 0.25  # in turns


@dataclass(frozen=True, kw_only=True)
class _Whole:
    turn: _Left | _Right = field(default_factory=_Left)
    steps: int  # how far
    word: str = "a # b"  # of text


def test_the_meaning_is_taken_from_docstring_or_comment() -> None:
    assert meaning_of(_Left, "inherited") == "said by the base, over two lines."
    assert meaning_of(_Left, "angle") == "in turns"
    assert meaning_of(_Left, "many") == "above its line, over two"
    assert meaning_of(_Left, "bare") == ""
    assert meaning_of(_Whole, "word") == "of text"


def test_a_key_is_said_with_type_range_default_meaning_and_value() -> None:
    said = explain(_Whole, "turn.many", _Whole(steps=1))
    assert said == (
        "turn.many\n  here: [1, 2]\n  a list of whole numbers; default: [1, 2]\n"
        "  above its line, over two"
    )
    said = explain(_Whole, "turn.angle")
    assert "of left:\n  a number (must be above 0 and at most 1); default: 0.5\n  in turns" in said
    assert "of right:\n  a number; default: 0.25" in said
    assert "a whole number; must be given\n  how far" in explain(_Whole, "steps")
    other = _Whole(steps=1, turn=_Right())
    assert "here: no such key in this config" in explain(_Whole, "turn.many", other)


def test_a_section_lists_its_keys_and_a_name_its_choices() -> None:
    assert "keys of left (What turns left):\n    inherited, name, angle" in explain(_Whole, "turn")
    assert "    left: What turns left\n    right: What" in explain(_Whole, "turn.name")


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("turn.angel", "Did you mean 'turn.angle'?"),
        ("angle", "Did you mean 'turn.angle'?"),
        ("steps.more", "no such key."),
        ("xyz", "xyz: no such key"),
    ],
)
def test_an_unknown_key_names_the_nearest(key: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        explain(_Whole, key)
    assert hint in str(caught.value)


@pytest.mark.parametrize("config_class", [PretrainConfig, EvaluateConfig])
def test_every_key_of_every_member_can_be_explained(config_class: type) -> None:
    for name in dict(every_key(config_class)):
        assert explain(config_class, name).startswith(f"{name}\n"), name


@pytest.mark.parametrize("config_class", [PretrainConfig, EvaluateConfig])
def test_every_key_has_a_meaning(config_class: type) -> None:
    bare = [
        f"{key.owner.__name__}: {name}" for name, key in every_key(config_class) if not key.meaning
    ]
    assert bare == []


def test_ranges_are_those_of_the_classes_own_checks() -> None:
    assert "(must be >= 1)" in explain(PretrainConfig, "epochs")
    assert "groups:G" in explain(PretrainConfig, "method.batch_norm")
    assert "(must be >= 0)" in explain(PretrainConfig, "optimizer.weight_decay")

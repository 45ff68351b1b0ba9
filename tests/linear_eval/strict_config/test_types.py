"""Run: pytest tests/linear_eval/test_config_types.py."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linear_eval.strict_config.types import Mismatch, Plain, convert, describe, nearest, show


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (True, int),
        (True, float),
        (1, bool),
        (3.0, int),
        (1, str),
        (None, str),
        ("true", bool),
        ("3", int),
        (True, Literal[1]),
        (1, Literal[True]),
        (Plain("inf"), float),
        (float("nan"), float),
        (10**400, float),
        (Plain("0x10"), int),
        (Plain("9" * 5000), int),
        ("abc", tuple[str, ...]),
        (Plain("a\0b"), str),
        ({"a": 1}, tuple[str, ...]),
        ([1], tuple[int, int]),
        (Plain("x"), None | int),
    ],
)
def test_nothing_is_rounded_or_guessed(value: Any, annotation: Any) -> None:
    with pytest.raises(Mismatch):
        convert(value, annotation)


@given(st.integers(-(10**30), 10**30), st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_without_quotes_is_read_exactly(whole: int, number: float) -> None:
    assert convert(Plain(str(whole)), int) == whole
    assert convert(Plain(repr(number)), float) == number


@given(st.text(st.characters(exclude_characters="\0")))
def test_text_without_quotes_is_text_to_the_letter(text: str) -> None:
    converted = convert(Plain(text), str)
    assert converted == text
    assert type(converted) is str


def test_text_has_the_last_word_in_a_union() -> None:
    assert convert(Plain("3"), str | int) == 3
    assert convert(Plain("x"), str | int) == "x"
    assert convert(None, str | None) is None


def test_a_list_becomes_what_is_annotated() -> None:
    assert convert([Plain("1")], tuple[int, ...]) == (1,)
    assert convert((1, 2), list[float]) == [1.0, 2.0]


def test_what_a_list_may_hold_is_said_once() -> None:
    with pytest.raises(Mismatch) as caught:
        convert([Plain("moco"), Plain("our")], tuple[Literal["ours", "moco"], ...])
    assert str(caught.value) == (
        "in its list, 'our' is not one of ['ours', 'moco']. Did you mean 'ours'?"
    )


@pytest.mark.parametrize("word", ["on", "On", "true", "yes", True])
def test_a_switch_takes_every_word_of_yaml(word: Any) -> None:
    plain = Plain(word) if isinstance(word, str) else word
    assert convert(plain, Literal["on", "off"]) == "on"


def test_descriptions_are_for_readers() -> None:
    assert describe(bool) == "true or false"
    assert describe(int | Literal["local"] | None) == "a whole number or 'local' or null"
    assert describe(tuple[float, int]) == "a list of 2 (a number, a whole number)"
    assert describe(tuple[list[int], ...]) == "a list of lists of whole numbers"


def test_a_shown_value_is_short_and_has_its_type() -> None:
    assert show(Plain("3")) == "3 (int)"
    assert show("3") == "'3' (str)"
    assert show(["x" * 200]).endswith("... (list)")
    assert len(show(["x" * 200])) < 100


def test_the_nearest_name_is_offered_only_if_it_is_near() -> None:
    assert nearest("queue_szie", ["queue_size", "heads"]) == " Did you mean 'queue_size'?"
    assert nearest("zzz", ["queue_size", "heads"]) == ""

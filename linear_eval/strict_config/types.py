"""From a YAML value to a Python value of an annotated type, strictly.

The types a config field may have: bool, int, float, str, None, Literal, `tuple[X, ...]`, tuples
of fixed length, `list[X]`, unions of these, frozen dataclasses ("sections") and unions of
sections told apart by `name: Literal[...]`.
"""

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, Literal, Union

WORDS_FOR_TRUE = ("true", "yes", "on")
WORDS_FOR_FALSE = ("false", "no", "off")


class Plain(str):
    """Text that stood in YAML or on the command line without quotes: it may mean any scalar."""

    __slots__ = ()


class Mismatch(ValueError):  # noqa: N818 - never leaves the loader; it becomes a ConfigError
    """A value does not fit the type; the message lacks the dotted key."""


def section_classes(annotation: Any) -> tuple[type, ...]:
    """Return the dataclasses among the members of an annotation: more than one if it is a union."""
    return tuple(
        member
        for member in union_members(annotation)
        if isinstance(member, type) and dataclasses.is_dataclass(member)
    )


def union_members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation itself as the only one."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def list_item(annotation: Any) -> Any:
    """Return X of `tuple[X, ...]` or `list[X]`, else None."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is list:
        return arguments[0]
    is_open = typing.get_origin(annotation) is tuple and arguments[1:] == (Ellipsis,)
    return arguments[0] if is_open else None


def convert(value: Any, annotation: Any) -> Any:
    """Return `value` as the annotated type (anything but sections).

    Raises:
        Mismatch: the value does not fit; nothing is rounded, cut or guessed.
        TypeError: the annotation is none of the types a config may have.
    """
    members = union_members(annotation)
    if len(members) > 1:
        return _convert_to_first_that_fits(value, annotation, members)
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return _convert_to_literal(value, annotation)
    if origin in (tuple, list):
        return _convert_to_sequence(value, annotation)
    if annotation is type(None) and value is None:
        return None
    if annotation is type(None) or section_classes(annotation):
        raise _mismatch(value, annotation)
    if annotation not in _SCALARS:
        raise TypeError(f"{annotation!r} is no type for a config field")
    converted = _SCALARS[annotation](value)
    if converted is None:
        raise _mismatch(value, annotation)
    return converted


def describe(annotation: Any, *, many: bool = False) -> str:
    """Say in words what a field expects, or with `many` what a list does of its items."""
    members = union_members(annotation)
    if len(members) > 1:
        return " or ".join(describe(member, many=many) for member in members)
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return f"one of {list(arguments)}" if len(arguments) > 1 else repr(arguments[0])
    item = list_item(annotation)
    if item is not None:
        return f"{'lists' if many else 'a list'} of {describe(item, many=True)}"
    if origin is tuple:
        return f"a list of {len(arguments)} ({', '.join(describe(each) for each in arguments)})"
    if annotation is type(None):
        return "null"
    if section_classes(annotation):
        return "sections" if many else "a section"
    return _WORDS[annotation][many]


def show(value: Any) -> str:
    """Return a value as a message should show it, with its type: `'ten' (str)`, `3.5 (float)`."""
    value = _natural(value)
    if value is None:
        return "null"
    if isinstance(value, dict):
        return f"a section with the keys {', '.join(map(str, value)) or '(none)'}"
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"


def nearest(given: str, known: Iterable[str]) -> str:
    """Return " Did you mean '...'?" for the known name closest to `given`, or nothing."""
    close = difflib.get_close_matches(given, list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def _mismatch(value: Any, annotation: Any) -> Mismatch:
    return Mismatch(f"expected {describe(annotation)}, got {show(value)}")


def _natural(value: Any) -> Any:
    """Return what plain text looks like: 3, 0.5, True, or a str; also inside a list."""
    if isinstance(value, (list, tuple)):
        return [_natural(each) for each in value]
    if not isinstance(value, Plain):
        return value
    for kind in (bool, int, float):
        natural = _SCALARS[kind](value)
        if natural is not None:
            return natural
    return str(value)


def _as_bool(value: Any) -> bool | None:
    word = value.lower() if isinstance(value, Plain) else None
    if value is True or word in WORDS_FOR_TRUE:
        return True
    return False if value is False or word in WORDS_FOR_FALSE else None


def _as_int(value: Any) -> int | None:
    if isinstance(value, Plain) and re.fullmatch(r"[-+]?[0-9]{1,40}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _as_float(value: Any) -> float | None:
    # Text of any kind: PyYAML itself hands `1e-4` over as text.
    is_text = isinstance(value, str) and re.fullmatch(r"[-+0-9.eE]{1,400}", value)
    if not is_text and (isinstance(value, bool) or not isinstance(value, (int, float))):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _as_str(value: Any) -> str | None:
    if isinstance(value, str) and "\0" in value:
        raise Mismatch(f"expected text without NUL characters, got {str(value)!r:.80}")
    return str(value) if isinstance(value, str) else None


_WORDS = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
}
"""Of each scalar: one, and many."""

_SCALARS: dict[Any, Callable[[Any], Any]] = {
    bool: _as_bool,
    int: _as_int,
    float: _as_float,
    str: _as_str,
}


def _convert_to_first_that_fits(value: Any, annotation: Any, members: tuple[Any, ...]) -> Any:
    # Any plain text is a str, so a str member has the last word.
    for member in sorted(members, key=lambda each: each is str):
        if not section_classes(member):
            try:
                return convert(value, member)
            except Mismatch:
                continue
    words = [word for member in members for word in _literal_words(member)]
    hint = nearest(value, words) if isinstance(value, str) else ""
    raise Mismatch(f"expected {describe(annotation)}, got {show(value)}.{hint}".removesuffix("."))


def _literal_words(annotation: Any) -> list[str]:
    is_literal = typing.get_origin(annotation) is Literal
    return [each for each in typing.get_args(annotation) if is_literal and isinstance(each, str)]


def _convert_to_literal(value: Any, annotation: Any) -> Any:
    choices = typing.get_args(annotation)
    if "on" in choices and "off" in choices and isinstance(value, (bool, Plain)):
        # YAML 1.1 (and so PyYAML) reads the words on and off as true and false.
        for switch, words in ((True, WORDS_FOR_TRUE), (False, WORDS_FOR_FALSE)):
            if value is switch or str(value).lower() in words:
                return "on" if switch else "off"
    for choice in choices:
        try:
            candidate = convert(value, type(choice))
        except Mismatch:
            continue
        if candidate == choice:
            return choice
    hint = nearest(value, _literal_words(annotation)) if isinstance(value, str) else ""
    shown = repr(str(value)) if isinstance(value, str) else show(value)
    raise Mismatch(f"{shown} is not {describe(annotation)}.{hint}".removesuffix("."))


def _convert_to_sequence(value: Any, annotation: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        hint = f"; write [{value}]" if _is_item(value, annotation) else ""
        raise Mismatch(f"expected {describe(annotation)}, got {show(value)}{hint}")
    item = list_item(annotation)
    types_of_items = [item] * len(value) if item is not None else typing.get_args(annotation)
    if len(types_of_items) != len(value):
        raise Mismatch(f"expected {describe(annotation)}, got {len(value)} values")
    try:
        converted = [convert(each, kind) for each, kind in zip(value, types_of_items, strict=True)]
    except Mismatch as error:
        raise Mismatch(f"in its list, {error}") from error
    return converted if typing.get_origin(annotation) is list else tuple(converted)


def _is_item(value: Any, annotation: Any) -> bool:
    """Whether a value would do inside a list."""
    item = list_item(annotation)
    if item is None or not isinstance(value, Plain) or value.startswith("["):
        return False
    try:
        convert(value, item)
    except Mismatch:
        return False
    return True

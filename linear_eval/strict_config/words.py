"""Error messages about sections of a configuration: wrong member, unknown key, no section."""

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

from linear_eval.strict_config.types import Plain, list_item, nearest, section_classes, show


def member_names(member: type) -> tuple[str, ...]:
    """Return the values of `name` that stand for this member of a union."""
    return typing.get_args(typing.get_type_hints(member).get("name"))


def member_named(classes: tuple[type, ...], name: Any) -> type | None:
    """Return the member of a union whose `name` this is."""
    return next((member for member in classes if name in member_names(member)), None)


def member_problem(classes: tuple[type, ...], key: str, name: Any) -> str:
    """Say that `name` selects no member of the union; `key` is its dotted key."""
    names = [each for member in classes for each in member_names(member)]
    if name is None:
        return f"{key}: missing, expected one of {names}; give it as {key}=NAME"
    if not isinstance(name, str):
        return f"{key}: expected one of {names}, got {show(name)}"
    hint = nearest(name.partition(":")[0], names)  # timm:resnet50 means timm
    return f"{key}: '{name}' is not one of {names}.{hint}".removesuffix(".")


def no_such_key(key: str, member: type, classes: tuple[type, ...], config_class: type) -> str:
    """Say that a section has no such key, and which key may have been meant.

    Args:
        key: dotted key as given.
        member: class of the section.
        classes: all members of the union that the section is one of.
        config_class: the whole configuration, for a key that belongs to another section.
    """
    name = key.rpartition(".")[2]
    known = _field_names(member)
    owners = [
        each for other in classes if name in _field_names(other) for each in member_names(other)
    ]
    if owners:
        own = "' or '".join(member_names(member))
        problem = f"{key}: no such key of '{own}', only of {', '.join(owners)}."
        return f"{problem} Known: {', '.join(known)}"
    hint = nearest(name, known)
    if not hint:
        elsewhere = [each for each in dotted_keys(config_class) if each.endswith(f".{name}")]
        hint = f" Did you mean '{elsewhere[0]}'?" if elsewhere else f" Known: {', '.join(known)}"
    return f"{key}: no such key.{hint}"


def way_to_give(key: str) -> str:
    """How a missing key is given: by an override, but for those inside of lists."""
    return "give it in its item of the list" if "]" in key else f"give it as {key}=VALUE"


def not_a_section(classes: tuple[type, ...], path: str, value: Any) -> str:
    """Say that a value stands where a section belongs."""
    if not path:
        return f"expected a mapping of keys to values, got {show(value)}"
    problem = f"{path}: is a section, got {show(value)}"
    keys = ", ".join(_field_names(classes[0]))
    if path.endswith("]"):
        return f"{problem}; write {{KEY: VALUE, ...}} with KEY one of {keys}"
    if len(classes) > 1 and isinstance(value, Plain):
        return f"{problem}; write {path}.name={value}"
    return f"{problem}; write {path}.KEY=VALUE with KEY one of {keys}"


def _field_names(member: Any) -> list[str]:
    return [each.name for each in dataclasses.fields(member) if each.init]


def dotted_keys(config_class: type, path: str = "") -> Iterator[str]:
    """Every dotted key, those of all members of unions among them; some come several times."""
    hints = typing.get_type_hints(config_class)
    for name in _field_names(config_class):
        yield f"{path}{name}"
        if list_item(hints[name]) is None:
            for member in section_classes(hints[name]):
                yield from dotted_keys(member, f"{path}{name}.")

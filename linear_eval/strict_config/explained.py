"""One key of a configuration in a few lines: type, range or choices, default, meaning.

The meaning stands beside the key in its config class: under "Attributes:" in the docstring, or in a
comment beside the field. The range is asked of the class's own check, so it is said once.
"""

from __future__ import annotations

import dataclasses
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from typing import Any

from linear_eval.strict_config.meanings import meaning_of, summary
from linear_eval.strict_config.range_checks import range_problems
from linear_eval.strict_config.types import (
    describe,
    list_item,
    nearest,
    section_classes,
    show,
    union_members,
)
from linear_eval.strict_config.words import dotted_keys, member_names
from linear_eval.system.errors import ConfigError

_PROBES: dict[type, tuple[Any, ...]] = {
    int: (-(10**9), -1, 0, 10**9),
    float: (-1e9, -0.5, 0.0, 1e9),
    str: ("?",),
}


@dataclass(frozen=True)
class Key:
    """A field of one config class.

    Attributes:
        owner: the class.
        known: the field.
        annotation: its type.
    """

    owner: type
    known: dataclasses.Field[Any]
    annotation: Any

    @property
    def meaning(self) -> str:
        """In words; "" where nothing says it."""
        classes = section_classes(self.annotation)
        own = meaning_of(self.owner, self.known.name)
        if self.known.name == "name" and not own:
            return summary(self.owner)
        return own or (summary(classes[0]) if len(classes) == 1 else "")

    def ranges(self) -> list[str]:
        """What the class's check objects to, said as it says it: "must be >= 1"."""
        kinds = {kind for member in union_members(self.annotation) for kind in _kinds(member)}
        found: dict[str, None] = {}
        for probe in (value for kind in kinds for value in _PROBES.get(kind, ())):
            values = {
                each.name: _default(each) for each in dataclasses.fields(self.owner) if each.init
            }
            values[self.known.name] = probe
            for problem in range_problems(self.owner, values, {self.known.name}):
                name, _, said = problem.partition(": ")
                if name == self.known.name:
                    found[said.partition(", got")[0]] = None
        return list(found)


def explain(config_class: type, key: str, config: Any = None) -> str:
    """Say what a dotted key means.

    Args:
        config_class: frozen dataclass of the whole configuration.
        key: dotted; of a section, its keys are listed.
        config: a configuration whose value is shown as well.

    Raises:
        ConfigError: no such key; names the nearest.
    """
    found = found_keys(config_class, key)
    lines = [key]
    if config is not None:
        lines.append(f"  here: {_value(config, key.split('.'))}")
    if len(found) > 1 and found[0].known.name == "name":
        lines.append("  which of these; the other keys of the section follow from it:")
        lines += [f"    {', '.join(member_names(each.owner))}: {each.meaning}" for each in found]
        return "\n".join(lines)
    for each, owners in _alike(found):
        lines += _lines(each, owners if len(found) > 1 else "")
    return "\n".join(lines)


def found_keys(config_class: type, key: str) -> list[Key]:
    """The fields that a dotted key stands for: of each member of a union that has it.

    Raises:
        ConfigError: no such key; names the nearest.
    """
    found = list(_find((config_class,), key.split(".")))
    if not found:
        known = list(dict.fromkeys(dotted_keys(config_class)))
        last = key.rpartition(".")[2]
        same = [each for each in known if each.rpartition(".")[2] == last]
        hint = f" Did you mean '{same[0]}'?" if same else nearest(key, known)
        raise ConfigError(f"{key}: no such key.{hint}".removesuffix("."))
    return found


def every_key(config_class: type, path: str = "") -> Iterator[tuple[str, Key]]:
    """All dotted keys of a configuration, those of every member of every union among them."""
    hints = typing.get_type_hints(config_class)
    for known in dataclasses.fields(config_class):
        if known.init:
            yield f"{path}{known.name}", Key(config_class, known, hints[known.name])
            for member in _sections(hints[known.name]):
                yield from every_key(member, f"{path}{known.name}.")


def _find(classes: tuple[type, ...], parts: list[str]) -> Iterator[Key]:
    for member in classes:
        hints = typing.get_type_hints(member)
        for known in dataclasses.fields(member):
            if known.init and known.name == parts[0]:
                if len(parts) == 1:
                    yield Key(member, known, hints[known.name])
                else:
                    yield from _find(_sections(hints[known.name]), parts[1:])


def _alike(found: list[Key]) -> list[tuple[Key, str]]:
    """Keys that differ in nothing that is said, once, with the names of their owners."""
    owners: dict[tuple[str, ...], tuple[Key, list[str]]] = {}
    for each in found:
        said = tuple(_lines(each, ""))
        owners.setdefault(said, (each, []))[1].extend(
            member_names(each.owner) or [each.owner.__name__]
        )
    return [(each, ", ".join(names)) for each, names in owners.values()]


def _lines(key: Key, owners: str) -> list[str]:
    default = _default(key.known)
    stated = "must be given" if default is MISSING else f"default: {_shown(default)}"
    ranges = "; ".join(key.ranges())
    lines = [f"  of {owners}:"] if owners else []
    sections = _sections(key.annotation)
    what = "a section" if sections else describe(key.annotation)
    lines.append(f"  {what}{f' ({ranges})' if ranges else ''}; {stated}")
    lines += textwrap.wrap(key.meaning, 96, initial_indent="  ", subsequent_indent="  ")
    for member in sections:
        title = ", ".join(member_names(member))
        lines.append(f"  keys{f' of {title} ({summary(member)})' if title else ''}:")
        names = ", ".join(each.name for each in dataclasses.fields(member) if each.init)
        lines += textwrap.wrap(names, 94, initial_indent="    ", subsequent_indent="    ")
    return lines


def _sections(annotation: Any) -> tuple[type, ...]:
    return section_classes(annotation) if list_item(annotation) is None else ()


def _kinds(annotation: Any) -> list[type]:
    if typing.get_origin(annotation) is not None or annotation not in _PROBES:
        return []
    return [annotation]


def _value(config: Any, parts: list[str]) -> str:
    for part in parts:
        if not hasattr(config, part):
            return "no such key in this config"
        config = getattr(config, part)
    return _shown(config)


def _shown(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return str(getattr(value, "name", "its own defaults"))
    if isinstance(value, str):
        return value
    return show(value).rpartition(" (")[0] or show(value)


def _default(known: dataclasses.Field[Any]) -> Any:
    factory: Any = known.default_factory
    return known.default if factory is MISSING else factory()

"""YAML and `dotted.key=value` overrides to frozen dataclasses; all errors are reported at once.

A section's keys come from three places, the later ones winning: the defaults, the file, the
overrides. Unknown keys, wrong types and values out of range are errors that begin with the dotted
key. When an override changes a section's `name`, the file's keys that the new member of the union
lacks, or whose values it cannot have, are dropped and noted; keys given as overrides stay strict.
"""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, replace
from typing import Any, Generic, TypeVar

import yaml

from linear_eval.strict_config.range_checks import range_problems
from linear_eval.strict_config.source import parse_overrides, read_config_file
from linear_eval.strict_config.types import (
    Mismatch,
    convert,
    describe,
    list_item,
    section_classes,
)
from linear_eval.strict_config.words import (
    member_named,
    member_problem,
    no_such_key,
    not_a_section,
    way_to_give,
)
from linear_eval.system.errors import ConfigError

__all__ = ["ConfigError", "LoadedConfig", "load_config", "parse_config", "to_yaml"]

T = TypeVar("T")


@dataclass(frozen=True)
class LoadedConfig(Generic[T]):
    """A configuration, and the log lines that reading it gave."""

    value: T
    notes: list[str]


def load_config(
    config_class: type[T],
    source: str,
    overrides: Sequence[str],
    *,
    packaged: str,
    for_missing: str | None = None,
) -> LoadedConfig[T]:
    """Read a config file and its overrides.

    Args:
        config_class: frozen dataclass of the whole configuration.
        source: a path, or the name of a packaged config such as "quickstart".
        overrides: texts of the form `dotted.key=value`; a later one wins.
        packaged: folder of the packaged configs, "pretrain", "evaluate" or "study".
        for_missing: stands for required texts that are not given; None: they are errors.

    Raises:
        ConfigError: one line with everything that is wrong.
    """
    return parse_config(config_class, read_config_file(source, packaged), overrides, for_missing)


def parse_config(
    config_class: type[T],
    mapping: Mapping[str, Any],
    overrides: Sequence[str] = (),
    for_missing: str | None = None,
) -> LoadedConfig[T]:
    """Make a configuration from nested mappings and overrides; see `load_config`."""
    given, problems = parse_overrides(overrides)
    reader = _Reader(config_class, problems, for_missing)
    value = reader.read((config_class,), _Section("", mapping, given))
    if problems:
        raise ConfigError("; ".join(problems))
    return LoadedConfig(value, reader.notes)


def to_yaml(config: Any) -> str:
    """Return a configuration as YAML that `parse_config` reads back to an equal one."""
    plain = _to_plain(config)
    return yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=10_000)


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {name: _to_plain(getattr(value, name)) for name in _fields(type(value))}
    return [_to_plain(each) for each in value] if isinstance(value, (tuple, list)) else value


def _fields(member: Any) -> dict[str, dataclasses.Field[Any]]:
    return {each.name: each for each in dataclasses.fields(member) if each.init}


@dataclass(frozen=True)
class _Section:
    """What is said about one section, and where.

    Attributes:
        path: dotted key of the section, "" at the top.
        file: what the file says; once checked, a mapping.
        given: what the overrides say, likewise.
        default: the instance that stands there by default, or None.
        dropped: None; or, when an override changed the `name` here or further up and so the file
            was written for another member, the list for the file's keys that this member lacks.
    """

    path: str
    file: Any
    given: Any
    default: Any = None
    dropped: list[str] | None = None

    def key(self, name: object) -> str:
        return f"{self.path}.{name}" if self.path else str(name)

    def states(self, name: str) -> bool:
        return name in self.file or name in self.given

    def value(self, name: str) -> Any:
        return self.given[name] if name in self.given else self.file.get(name)


@dataclass(frozen=True)
class _Reader:
    """Reads sections recursively; what cannot be read becomes MISSING and leaves a problem."""

    config_class: type
    problems: list[str]
    for_missing: str | None
    notes: list[str] = field(default_factory=list)

    def read(self, classes: tuple[type, ...], section: _Section) -> Any:
        """Read a section that is of one of `classes`."""
        if section.file is None:  # a heading in the file with nothing below it
            section = replace(section, file={})
        for said in (section.file, section.given):
            if not isinstance(said, Mapping):
                self.problems.append(not_a_section(classes, section.path, said))
                return MISSING
        is_union = len(classes) > 1
        written_for = section.file.get("name", getattr(section.default, "name", None))
        name = section.given.get("name", written_for)
        member = member_named(classes, name) if is_union else classes[0]
        if member is None:
            self.problems.append(member_problem(classes, section.key("name"), name))
            return MISSING
        if type(section.default) is not member:
            section = replace(section, default=None)
        if not is_union or written_for in (None, name):
            return self._read_member(classes, member, section)
        section = replace(section, dropped=[])
        config = self._read_member(classes, member, section)
        if section.dropped:
            dropped = ", ".join(section.dropped)
            key = section.key("name")
            self.notes.append(f"{key} is now {str(name)!r}; dropped from the file: {dropped}")
        return config

    def _read_member(self, classes: tuple[type, ...], member: type, section: _Section) -> Any:
        known = _fields(member)
        if section.dropped is not None:
            section.dropped.extend(section.key(name) for name in section.file if name not in known)
            kept = {name: value for name, value in section.file.items() if name in known}
            section = replace(section, file=kept)
        stated = dict.fromkeys([*section.file, *section.given])
        self.problems.extend(
            no_such_key(section.key(name), member, classes, self.config_class)
            for name in stated
            if name not in known
        )
        hints = typing.get_type_hints(member)
        values = {name: self._read_field(known[name], hints[name], section) for name in known}
        if MISSING not in values.values():
            try:
                return member(**values)
            except ValueError:
                pass  # found and named below
        for problem in range_problems(member, values, stated):
            names_a_key = problem.partition(":")[0] in known or not section.path
            self.problems.append(
                section.key(problem) if names_a_key else f"{section.path}: {problem}"
            )
        return MISSING

    def _read_field(self, known: dataclasses.Field[Any], annotation: Any, section: _Section) -> Any:
        name, key = known.name, section.key(known.name)
        value, default = section.value(name), _default(known, section.default)
        item = list_item(annotation)
        if item is not None and section_classes(item) and isinstance(value, (list, tuple)):
            return self._read_list(annotation, section_classes(item), value, key)
        classes = section_classes(annotation)
        if classes and (isinstance(value, Mapping) or not _fits(value, annotation)):
            if not section.states(name) and default is not MISSING:
                return default
            file, given = section.file.get(name, {}), section.given.get(name, {})
            inner = _Section(key, file, given, default, section.dropped)
            return self.read(classes, inner)
        if section.states(name):
            try:
                return convert(value, annotation)
            except Mismatch as error:
                if section.dropped is not None and not (
                    name in section.given or default is MISSING
                ):
                    section.dropped.append(key)  # written for another member
                    return default
                self.problems.append(f"{key}: {error}")
                return MISSING
        if default is MISSING and annotation is str and self.for_missing is not None:
            return self.for_missing
        if default is MISSING:
            wanted = known.metadata.get("expects") or describe(annotation)
            self.problems.append(f"{key}: missing, expected {wanted}; {way_to_give(key)}")
        return default

    def _read_list(
        self, annotation: Any, classes: tuple[type, ...], values: Sequence[Any], key: str
    ) -> Any:
        read = [
            self.read(classes, _Section(f"{key}[{index}]", {}, value))
            for index, value in enumerate(values)
        ]
        if any(each is MISSING for each in read):
            return MISSING
        return read if typing.get_origin(annotation) is list else tuple(read)


def _fits(value: Any, annotation: Any) -> bool:
    """Whether one of the members that are no sections takes the value."""
    try:
        convert(value, annotation)
    except Mismatch:
        return False
    return True


def _default(known: dataclasses.Field[Any], instance: Any) -> Any:
    if instance is not None:
        return getattr(instance, known.name)
    factory: Any = known.default_factory
    return known.default if factory is MISSING else factory()

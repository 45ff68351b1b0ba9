"""Where configuration text comes from: YAML files and `dotted.key=value` overrides.

Nothing is guessed from the looks of a value: a scalar without quotes stays text (`Plain`), and
the field it is meant for decides whether `1e-4` is a number, `on` a word and `007` a folder.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from linear_eval.strict_config.types import Plain, nearest
from linear_eval.system.errors import ConfigError
from linear_eval.system.user_text import ARCHIVES, TextError, read_text

_PACKAGE = Path(__file__).resolve().parents[1]
_COMMAND_OF = {
    "pretrain": "ssl-bf pretrain",
    "evaluate": "linear-eval run",
    "study": "ssl-bf ablate",
}
_FEW = 12  # names that a line can hold
_KIND_OF = {
    "pretrain": "a pretraining config",
    "evaluate": "an evaluation config",
    "study": "a study",
}
_ONLY_IN = {
    "pretrain": {"method", "views", "optimizer", "run"},
    "evaluate": {"evaluators", "protocols", "baselines", "knn", "linear_probe", "retrieval"},
    "study": {"arms", "contrasts", "judge", "budget"},
}


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader; scalars without quotes become `Plain`, repeated keys are errors.

    Of tags only those of text, null, lists and mappings are known: the field decides on the type,
    and the constructors of numbers and dates raise whatever a wrong text makes Python raise.
    """

    yaml_constructors = {  # noqa: RUF012 - the class attribute that PyYAML reads
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "seq", "map")
    }

    yaml_implicit_resolvers = {  # noqa: RUF012 - the class attribute that PyYAML reads
        first: [("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"))]
        for first in ("~", "n", "N", "")
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse aliases: they can make a config refer to itself."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs' gap
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not supported", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that is given twice; PyYAML would keep the last one without a word."""
        seen = set()
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()  # PyYAML refuses others
        for key_node, _ in pairs:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is a list or a mapping", key_node.start_mark
                )
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _construct_text(loader: _PlainLoader, node: yaml.ScalarNode) -> str:
    text = str(loader.construct_scalar(node))
    return Plain(text) if node.style is None else text


_PlainLoader.add_constructor("tag:yaml.org,2002:str", _construct_text)


def parse_yaml(text: str) -> Any:
    """Read one YAML document.

    Raises:
        yaml.YAMLError: it is not valid YAML, uses an alias, or gives a key twice.
    """
    loader = _PlainLoader(text)
    try:
        return loader.get_single_data()
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error
    finally:
        loader.dispose()


def read_config_file(source: str, packaged: str) -> dict[str, Any]:
    """Read a config file as nested mappings.

    Args:
        source: a path, or the name of a packaged config (no folder, no `.yaml`).
        packaged: folder of the packaged configs, "pretrain", "evaluate" or "study".

    Raises:
        ConfigError: no such file or name, unreadable, not a YAML mapping, or one for the other
            command.
    """
    file = _find(source, packaged)
    try:
        content = parse_yaml(read_text(file))
    except TextError as error:
        raise ConfigError(
            f"{source}: {error}, expected a YAML file; give another path, or mend the file"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{_place(source, error)}: not valid YAML ({_problem(error)})") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{source}: not a configuration, expected lines of the form key: value")
    kinds = [kind for kind, keys in _ONLY_IN.items() if keys & content.keys()]
    if len(kinds) == 1:
        _require_kind(source, kinds[0], packaged)
    return content


def _require_kind(source: str, kind: str, wanted: str) -> None:
    if kind != wanted:
        raise ConfigError(
            f"{source}: is {_KIND_OF[kind]}, expected {_KIND_OF[wanted]}; "
            f"use `{_COMMAND_OF[kind]}`, or give another config"
        )


def parse_overrides(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Turn `dotted.key=value` texts into nested mappings; a later one wins.

    A value that begins with a bracket, a brace or a quote is read as YAML, anything else is taken
    to the letter (a path may contain ` #` or `: `).

    Returns:
        The nested mapping, and one message for each text that is not of that form.
    """
    tree: dict[str, Any] = {}
    problems = []
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            problems.append(f"{override}: not an override, expected key=value as in epochs=10")
            continue
        section = tree
        for part in parts[:-1]:
            if not isinstance(section.get(part), dict):
                section[part] = {}
            section = section[part]
        _merge(section, parts[-1], _override_value(text.strip()))
    return tree, problems


def _merge(section: dict[str, Any], key: str, value: Any) -> None:
    if isinstance(value, dict) and isinstance(section.get(key), dict):
        for name, inner in value.items():
            _merge(section[key], name, inner)
    else:
        section[key] = value


def _override_value(text: str) -> Any:
    if text[:1] in ("[", "{", "'", '"'):
        try:
            return parse_yaml(text)
        except yaml.YAMLError:
            return Plain(text)  # a folder may be called "[old] images"; other types will object
    return None if text in ("", "~", "null") else Plain(text)


def _find(source: str, packaged: str) -> Path:
    folder = packaged_folder() / packaged
    is_name = "/" not in source and "\\" not in source and not source.endswith((".yaml", ".yml"))
    if is_name and (folder / f"{source}.yaml").is_file():
        return folder / f"{source}.yaml"
    path = Path(source)
    if path.is_dir():
        raise ConfigError(f"{source}: is a folder, expected a YAML file or the name of a config")
    if path.is_file():
        if path.name.lower().endswith(ARCHIVES):
            raise ConfigError(
                f"{source}: is an archive, expected a config or a folder; extract it, and give the"
                " folder that comes out of it"
            )
        return path
    for kind in _KIND_OF:
        if is_name and (packaged_folder() / kind / f"{source}.yaml").is_file():
            _require_kind(source, kind, packaged)
    key, equals, _ = source.partition("=")
    if equals and "/" not in key:
        raise ConfigError(
            f"CONFIG: missing, {source} is an override; give a YAML file or the name of a "
            "packaged config before it"
        )
    known = config_names(packaged)
    what = "no such config" if is_name else "no such file"
    hint = nearest(path.stem, known)
    named = ", ".join(known) if len(known) <= _FEW else "`ssl-bf configs` lists them"
    names = "" if hint else f" ({named})"
    raise ConfigError(
        f"{source}: {what}, expected a path or the name of a packaged config{names}.{hint}"
    )


def config_names(packaged: str) -> list[str]:
    """Names of the packaged configs of one folder, "pretrain" or "evaluate"."""
    return sorted(path.stem for path in (packaged_folder() / packaged).glob("*.yaml"))


def packaged_configs(packaged: str) -> dict[str, str]:
    """Name of each packaged config of one folder -> the first line of its header."""
    folder = packaged_folder() / packaged
    first = {name: (folder / f"{name}.yaml").read_text("utf-8") for name in config_names(packaged)}
    return {name: text.partition("\n")[0].removeprefix("# ") for name, text in first.items()}


def packaged_folder() -> Path:
    """The folder `configs` of the code that runs.

    An installed package holds it, a checkout has it beside the package. Python is not asked for
    `linear_eval.configs`: beside the code of one checkout it would find those of another, where
    that one is installed to be edited.
    """
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def _place(source: str, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return source if mark is None else f"{source}:{mark.line + 1}:{mark.column + 1}"


def _problem(error: yaml.YAMLError) -> str:
    return getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)

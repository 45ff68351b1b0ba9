"""Configs of which keys, values, lines or bytes were changed: read, or refused in one line."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import yaml

from linear_eval.evaluation.config import EvaluateConfig
from linear_eval.strict_config.reader import load_config, parse_config, to_yaml
from linear_eval.strict_config.source import packaged_folder, parse_yaml
from linear_eval.system.errors import InputError
from ssl_bf.config import PretrainConfig
from ssl_bf.study.study_file import StudyConfig
from tests.torture.mutants import mutant, odd_value
from tests.torture.row import Row, Trials, Tried, chance_of

CLASSES: dict[str, Any] = {
    "pretrain": PretrainConfig,
    "evaluate": EvaluateConfig,
    "study": StudyConfig,
}
_ODD_TEXT = (
    *("!!python/object/apply:os.system [id]", "!!binary aGk=", "&a [*a]", "*a", "<<: {a: b}"),
    *("{" * 300, "[" * 3000, "? ?", "%YAML 9.9", "---\n---", "\t", "'", '"', "|", "key: {}: {}"),
    *("1e999", "0x10", "1_000", "0o7", ".inf", ".nan", "~", "2001-01-01", "!!set {a}", "\x85"),
    *("é", "\U0001d518", "\u202e", "\ufeff", "\x00", "\x1b[2J", "a" * 9000, "9" * 5000, "-" * 400),
)


def _prepare(folder: Path) -> Trials:
    files = [(kind, file) for kind in CLASSES for file in (packaged_folder() / kind).glob("*.yaml")]
    files.sort()

    def trial(number: int) -> Tried:
        chance = chance_of("configs", number)
        kind, file = chance.choice(files)
        place, overrides = folder / "fuzzed.yaml", _overrides(parse_yaml(file.read_text()), chance)
        place.write_bytes(_text(file.read_text(), chance))
        try:
            read = load_config(CLASSES[kind], str(place), overrides, packaged=kind).value
        except InputError as error:
            return Tried(() if str(error).strip() else ("an empty message",), facts={"refused": 1})
        except Exception as error:
            said = f"{file.stem} {overrides}: {type(error).__name__}: {str(error)[:200]}"
            return Tried((said,))
        again = parse_config(CLASSES[kind], parse_yaml(to_yaml(read))).value
        same = repr(again) == repr(read)  # NaN is NaN
        return Tried(() if same else (f"{file.stem} {overrides}: reads back as another one",))

    return Trials(trial)


def _text(text: str, chance: random.Random) -> bytes:
    kind = chance.choice("as_is bytes lines text tree tree tree".split())
    if kind == "bytes":
        return mutant(text.encode(), chance)
    if kind == "lines":
        lines = text.splitlines()
        at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        lines[at : at + chance.randrange(3)] = [" " * chance.randrange(5) + lines[other]]
        return "\n".join(lines).encode()
    if kind == "text":
        at = chance.randrange(len(text))
        return (text[:at] + chance.choice(_ODD_TEXT) + text[at:]).encode("utf-8", "surrogatepass")
    if kind == "tree":
        tree = copy.deepcopy(yaml.safe_load(text))
        for _ in range(chance.choice((1, 1, 2, 5))):
            _change(tree, chance)
        return yaml.safe_dump(tree, allow_unicode=chance.random() < 0.5).encode()
    return text.encode()


def _change(tree: dict[Any, Any], chance: random.Random) -> None:
    """One place of nested mappings."""
    if not tree:
        return
    key = chance.choice(list(tree))
    if isinstance(tree[key], dict) and tree[key] and chance.random() < 0.8:
        _change(tree[key], chance)
        return
    kind = chance.random()
    if kind < 0.1:
        del tree[key]
    elif kind < 0.2:
        tree[chance.choice((f"{key}s", str(key).upper(), 1, None, True, "", "a.b"))] = tree[key]
    else:
        tree[key] = odd_value(tree[key], chance)


def _overrides(tree: dict[str, Any], chance: random.Random) -> list[str]:
    texts = []
    for _ in range(chance.choice((0, 0, 1, 2, 3))):
        path: list[str] = []
        inner: Any = tree
        while isinstance(inner, dict) and inner and (not path or chance.random() < 0.9):
            path.append(str(chance.choice(list(inner))))
            inner = inner.get(path[-1])
        value = chance.choice((odd_value(inner, chance), chance.choice(_ODD_TEXT)))
        name = chance.choice((".".join(path),) * 8 + (".".join(path) + ".x", "", ".", "a..b", "="))
        texts.append(f"{name}{chance.choice('======: ')}{value}")
    return texts


ROW = Row(
    name="configs",
    says="fuzzed configs: traceback, or read back as another one",
    prepare=_prepare,
    must=10_000,
    aim=100_000,
    chunk=500,
)

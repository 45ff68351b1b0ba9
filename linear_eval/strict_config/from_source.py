"""Config classes as their source says them, without what stands beside them.

A config class lies beside the module that it configures, so importing it costs seconds for torch. A
wrong key should not: here a class is made from its lines of the source alone, with its keys, types
and defaults, but without its methods, so without its range checks.
"""

from __future__ import annotations

import ast
import builtins
import importlib
from functools import cache
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]


@cache
def defined(module: str, name: str) -> Any:
    """What a module's top level calls so: a class's fields alone, or the value of anything else.

    Its package and this one are read, all others imported. What the source gives in another way
    than by a class, an assignment or an import of a name is imported with all that takes.

    Args:
        module: dotted name.
        name: of the top level there.
    """
    try:
        return _read(module, name)
    except (AttributeError, NameError, OSError):  # OSError: no source beside the program
        return _imported(module, name)


def _read(module: str, name: str) -> Any:
    ours = {each.partition(".")[0] for each in (module, __name__)}
    for statement in _statements(module):
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return _made(module, _fields_alone(statement), name)
        if isinstance(statement, ast.Assign) and name in map(ast.unparse, statement.targets):
            return _made(module, statement, name)
        if isinstance(statement, ast.ImportFrom) and statement.module is not None:
            for each in statement.names:
                if name == (each.asname or each.name):
                    is_ours = statement.module.partition(".")[0] in ours
                    return (defined if is_ours else _imported)(statement.module, each.name)
        if isinstance(statement, ast.Import) and name in [each.name for each in statement.names]:
            return importlib.import_module(name)
    raise NameError(f"{module}: its source does not say what {name} is")


def _imported(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _fields_alone(statement: ast.ClassDef) -> ast.ClassDef:
    kept: list[ast.stmt] = [
        each for each in statement.body if isinstance(each, ast.AnnAssign | ast.Assign)
    ]
    parts = {part: getattr(statement, part) for part in statement._fields}
    return ast.ClassDef(**{**parts, "body": kept or [ast.Pass()]})


def _made(module: str, statement: ast.stmt, name: str) -> Any:
    """Run one statement of our own source, with what the names that it reads mean there."""
    inside = [*ast.walk(statement)]
    read = {each.id for each in inside if isinstance(each, ast.Name)}
    own = {each.id for each in inside if isinstance(each, ast.Name) and _is_stored(each)}
    own |= {each.arg for each in inside if isinstance(each, ast.arg)}
    others = read - own - {name, *dir(builtins)}
    names = {"__name__": module, **{each: defined(module, each) for each in others}}
    tree = ast.fix_missing_locations(ast.Module(body=[statement], type_ignores=[]))
    exec(compile(tree, module, "exec", dont_inherit=True), names)
    return names[name]


def _is_stored(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


@cache
def _statements(module: str) -> list[ast.stmt]:
    file = _ROOT.joinpath(*module.split("."))
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    return ast.parse(file.read_text("utf-8")).body

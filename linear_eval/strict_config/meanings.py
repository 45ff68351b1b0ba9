"""What the keys of a config class mean, taken from where the class says it."""

from __future__ import annotations

import ast
import inspect
import io
import re
import textwrap
import tokenize
from functools import lru_cache


def meaning_of(config_class: type, name: str) -> str:
    """The meaning of a field; "" where nothing says it.

    "Attributes:" of the class's docstring says it, or a comment: above the field's line, or at its
    end. A class that inherits the field says it by itself or leaves it to its bases.
    """
    for owner in config_class.__mro__:
        if owner is object:
            continue
        said = _attributes(owner).get(name) or _comments(owner).get(name)
        if said:
            return said
    return ""


def summary(config_class: type) -> str:
    """First line of the class's docstring, without its full stop."""
    return (config_class.__doc__ or "").strip().partition("\n")[0].removesuffix(".")


def _attributes(config_class: type) -> dict[str, str]:
    """Field -> text under "Attributes:"; none where docstrings were stripped (python -OO)."""
    text = inspect.cleandoc(config_class.__doc__ or "")
    section = text.partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if line and not line.startswith(" "):
            break  # the next section
        entry = re.match(r"    (\w+): (.*)", line)
        if entry:
            name, found[entry[1]] = entry[1], entry[2]
        elif name and line.strip():
            found[name] += f" {line.strip()}"
    return found


@lru_cache
def _comments(config_class: type) -> dict[str, str]:
    """Field -> the comment at the end of its lines, or else the one above; from the source."""
    try:
        source = textwrap.dedent(inspect.getsource(config_class))
    except OSError:  # no source beside the program
        return {}
    comments = {
        token.start[0]: (token.string.lstrip("# "), token.line.strip().startswith("#"))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    [body] = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    for field in body.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert field.end_lineno is not None
            inside = range(field.lineno, field.end_lineno + 1)
            said = [comments[line][0] for line in inside if line in comments]
            above = field.lineno - 1
            while not said and above in comments and comments[above][1]:
                above -= 1
            said = said or [comments[line][0] for line in range(above + 1, field.lineno)]
            if said:
                found[field.target.id] = " ".join(said)
    return found

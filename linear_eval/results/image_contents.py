"""Whether evaluations saw the same pictures, not only the same names, labels and sizes.

`data.contents` of a results file has the identity by content of each part whose files were read;
files of earlier versions have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CONTENTS = "contents"


def different_parts(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Parts of the data that both evaluations have read, and that hold other bytes."""
    first, second = (data.get(CONTENTS) or {} for data in (a, b))
    return [name for name in first if name in second and first[name] != second[name]]


def contents_note(paths: Sequence[Path], data: Sequence[Mapping[str, Any]]) -> str | None:
    """A line where it is not known whether all evaluations saw the same pictures."""
    unknown = [path for path, said in zip(paths, data, strict=True) if not said.get(CONTENTS)]
    if not unknown:
        return None
    return (
        f"{unknown[0]}{' and others' * (len(unknown) > 1)}: written by an earlier version, which "
        "did not keep what the images held; only names, labels and sizes are known to be the same"
    )


def contents_problem(data: Mapping[str, Any]) -> str | None:
    """What is wrong with the entry, or None."""
    found = data.get(CONTENTS, {})
    is_sound = isinstance(found, dict) and all(isinstance(each, str) for each in found.values())
    return None if is_sound else f"has no 'data.{CONTENTS}' by part"

"""Whether a file holds results of the same backbone and may be replaced; writing results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from linear_eval.results.per_image import HEADER_KEY
from linear_eval.results.seal import sealed
from linear_eval.system.atomic_file import atomic_file

_SHOWN = 12  # characters of a digest that tell it from others


@dataclass(frozen=True)
class Judged:
    """Who is judged.

    Attributes:
        architecture: its name, or `pixels`.
        sha256: of the backbone file; None where there is none.
        seed: of the initial weights of a random backbone; None for any other.
    """

    architecture: str
    sha256: str | None
    seed: int | None = None

    def __str__(self) -> str:
        """For a message."""
        if self.sha256 is not None:
            return f"{self.architecture}, sha256 {self.sha256[:_SHOWN]}..."
        return self.architecture if self.seed is None else f"random {self.architecture}"


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write `results.json` with its digest, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    text = json.dumps(sealed(results), indent=2, allow_nan=False) + "\n"
    with atomic_file(path) as file:
        file.write(text.encode())


def results_differ(path: Path, judged: Judged) -> str:
    """What a file is that `linear-eval run` is to write; "": results of the same backbone."""
    found = _read_json(path)
    said = found.get("backbone")
    if "protocol" not in found or not isinstance(said, dict):
        return "exists already and holds no results"
    settings = found.get("settings")
    seed = settings.get("seed") if isinstance(settings, dict) else None
    return _compare(said, seed, judged)


def quality_differs(path: Path, judged: Judged) -> str:
    """What a file is that `linear-eval quality` is to write; "": that of the same backbone."""
    found = _read_json(path)
    said, metrics = found.get("backbone"), found.get("metrics")
    if not isinstance(said, dict) or not isinstance(metrics, dict) or "rankme" not in metrics:
        return "exists already and holds no numbers of quality"
    return _compare(said, None, judged)


def answers_differ(path: Path, judged: Judged) -> str:
    """What a file is that `linear-eval run` writes per image; "": of the same backbone."""
    unknown = "exists already, answers per image of nobody knows which backbone"
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER_KEY, "{}"))
    except (SafetensorError, OSError, ValueError):
        return "exists already and holds no answers per image"
    said = header.get("backbone") if isinstance(header, dict) else None
    if isinstance(said, dict):
        return _compare(said, said.get("seed"), judged)
    return "" if _belongs_to_results(path, judged) else unknown


def _belongs_to_results(path: Path, judged: Judged) -> bool:
    """Whether the results beside a file of an earlier version are of the same backbone."""
    results = path.with_name(path.name.replace(".per_image.safetensors", ".json"))
    entry = _read_json(results).get("per_image")
    names_it = isinstance(entry, dict) and entry.get("file") == path.name
    return names_it and results_differ(results, judged) == ""


def _compare(said: dict[str, Any], seed: Any, judged: Judged) -> str:
    is_random = said.get("sha256") is None and said.get("architecture") != "pixels"
    other = Judged(str(said.get("architecture")), said.get("sha256"), seed if is_random else None)
    return "" if other == judged else f"holds results of another backbone ({other})"


def _read_json(path: Path) -> dict[str, Any]:
    """Nothing where it is no JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

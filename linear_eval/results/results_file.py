"""`results.json`, read back and checked, and what makes two of them comparable."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from linear_eval.results.image_contents import CONTENTS, contents_problem, different_parts
from linear_eval.results.seal import DIGEST, seal_problem, unprintable
from linear_eval.strict_config.flattened import flattened
from linear_eval.system.errors import InputError
from linear_eval.system.user_text import TextError, read_text

RESULTS_FILE = "results.json"
_COUNTS = {"train_images", "test_images"}
_SHOWN = 12  # characters of a digest that tell it from others


@dataclass(frozen=True, eq=False, kw_only=True)
class Results:
    """What one evaluation wrote.

    Attributes:
        path: of the file.
        metrics: of the judged backbone, in percent.
        protocols: names of the rules; `ours` has the metrics without a prefix.
        settings: nested, as in the config.
        backbone: `architecture`, `sha256` (None where there is no file), and perhaps `seed`.
        data: `name`, `classes`, `train_images`, `test_images`, `fingerprint`, `contents`.
        per_image: `file` and `sha256` of the per-image answers; None where it has none.
        whole: all that the file holds.
    """

    path: Path
    metrics: dict[str, float]
    protocols: tuple[str, ...]
    settings: dict[str, Any]
    backbone: dict[str, Any]
    data: dict[str, Any]
    per_image: dict[str, str] | None
    is_sealed: bool = False  # it has a digest, which fits
    whole: dict[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int | None:
        """Of the pretraining; None where the backbone file does not say."""
        return self.backbone.get("seed")


def read_results(path: Path) -> Results:
    """Read a `results.json`; a folder stands for the one in it.

    Raises:
        InputError: no such file, or not what `linear-eval run` writes.
    """
    path = path / RESULTS_FILE if path.is_dir() else path
    try:
        found = json.loads(read_text(path))
    except TextError as error:
        if not path.exists():
            raise InputError(
                f"{path}: no such file, expected a {RESULTS_FILE} of `linear-eval run`; give its"
                " path"
            ) from error
        raise InputError(
            f"{path}: {error}, expected a {RESULTS_FILE} of `linear-eval run`; give the path of one"
        ) from error
    except ValueError as error:
        # one that begins like an object, or is empty, once was what is expected
        is_cut = isinstance(error, json.JSONDecodeError) and error.doc.strip()[:1] in ("{", "")
        wrong = "is cut off or damaged" if is_cut else "is no JSON"
        remedy = "copy it once more, or judge again" if is_cut else "give the path of one"
        raise InputError(
            f"{path}: {wrong} ({error}), expected a {RESULTS_FILE} of `linear-eval run`; {remedy}"
        ) from error
    if problem := _problem(found):
        raise InputError(
            f"{path}: {problem}, expected a {RESULTS_FILE} of `linear-eval run`; judge again"
        )
    return Results(
        path=path,
        metrics={key: float(value) for key, value in found["metrics"].items()},
        protocols=tuple(found.get("protocol_rules") or [found["protocol"]]),
        settings=found["settings"],
        backbone=found["backbone"],
        data=found["data"],
        per_image=found.get("per_image"),
        is_sealed=DIGEST in found,
        whole=found,
    )


def require_different(runs: Sequence[Results]) -> None:
    """Check that no file was given twice: it would be compared with itself, or count double.

    Raises:
        InputError: naming it.
    """
    seen: set[Path] = set()
    for run in runs:
        if run.path.resolve() in seen:
            raise InputError(f"{run.path}: given twice, expected different files; leave one out")
        seen.add(run.path.resolve())


def require_different_backbones(runs: Sequence[Results]) -> None:
    """Check that no backbone file was judged twice: one model is one run, however often judged.

    Raises:
        InputError: naming both evaluations.
    """
    seen: dict[str, Path] = {}
    for run in runs:
        digest = run.backbone.get("sha256")
        if digest is None:
            continue  # pixels, or a random backbone
        if digest in seen:
            raise InputError(
                f"{run.path}: judges the same backbone file as {seen[digest]}, expected a "
                "pretraining run of its own for each; leave one out"
            )
        seen[digest] = run.path


def require_comparable(runs: Sequence[Results], *, unread_images: bool = False) -> None:
    """Check that all runs were judged on the same data, and under one protocol at least.

    Args:
        runs: each is compared with the first.
        unread_images: allow numbers of images that differ because some could not be read.

    Raises:
        InputError: naming two files and what differs.
    """
    common_protocols(runs)
    first = runs[0]
    for run in runs[1:]:
        different = [
            key
            for key, value in first.data.items()
            if key != CONTENTS and run.data.get(key) != value
        ]
        listed = ", ".join(
            f"{key} {_short(run.data.get(key))} against {_short(first.data[key])}"
            for key in different
        )
        if not set(different) <= _COUNTS:
            raise InputError(
                f"{run.path}: judged on other data than {first.path} ({listed}); "
                "judge both with the same data settings"
            )
        if different and not unread_images:
            raise InputError(
                f"{run.path}: other images could be read than for {first.path} ({listed}); mend "
                "the files and judge again, or for two models add --common-images"
            )

        others = [] if different else different_parts(first.data, run.data)
        if others:
            raise InputError(
                f"{run.path}: judged on other images than {first.path}: {' and '.join(others)} "
                "with the same names, labels and sizes, but other contents; judge both on one data "
                "set"
            )


def common_protocols(runs: Sequence[Results]) -> tuple[str, ...]:
    """The protocols under which all runs were judged, in the order of the first.

    Raises:
        InputError: there is none.
    """
    first = runs[0]
    common = first.protocols
    for run in runs[1:]:
        common = tuple(name for name in common if name in run.protocols)
        if not common:
            raise InputError(
                f"{run.path}: made under protocol {_quoted(run.protocols)}, {first.path} under "
                f"{_quoted(first.protocols)}, expected one in common; judge both under one"
            )
    return common


def different_settings(runs: Sequence[Results]) -> list[str]:
    """Dotted keys of the settings in which a run differs from the first, where both have them."""
    flat = [flattened(run.settings) for run in runs]
    return [
        key
        for key, value in flat[0].items()
        if any(key in other and other[key] != value for other in flat[1:])
    ]


def _problem(found: Any) -> str | None:
    """What is wrong with the content of a file, or None."""
    if not isinstance(found, dict):
        return "holds no JSON object"
    for key, kind in {
        "metrics": dict,
        "protocol": str,
        "settings": dict,
        "backbone": dict,
        "data": dict,
    }.items():
        if not isinstance(found.get(key), kind):
            return f"has no '{key}'"
    if not all(_is_number(value) for value in found["metrics"].values()):
        return "has metrics that are no numbers"
    if not isinstance(found["data"].get("fingerprint"), str):
        return "has no 'data.fingerprint'"
    if problem := contents_problem(found["data"]) or seal_problem(found) or unprintable(found):
        return problem
    if not isinstance(found["backbone"].get("seed", 0), int):
        return "has a 'backbone.seed' that is no whole number"
    if not isinstance(found.get("protocol_rules", {}), dict):
        return "has no 'protocol_rules' by name"
    entry = found.get("per_image")
    if entry is not None and not (
        isinstance(entry, dict)
        and isinstance(entry.get("sha256"), str)
        and isinstance(entry.get("file"), str)
        and Path(entry["file"]).name == entry["file"]  # beside it, nowhere else
        and entry["file"].endswith(".safetensors")
    ):
        return "names no file in 'per_image'"
    return None


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _short(value: Any) -> str:
    return value[:_SHOWN] if isinstance(value, str) else str(value)

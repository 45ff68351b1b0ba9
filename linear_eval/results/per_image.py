"""What every test image got from every contestant: a file beside `results.json`.

A safetensors file (tensors and text, no code), so that two evaluations can be compared image by
image without running them again. `results.json` names it and its sha256.

Shapes: M test images.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from linear_eval.results.intervals import Array, is_binary
from linear_eval.system.atomic_file import atomic_file, file_sha256
from linear_eval.system.errors import InputError

FORMAT_VERSION = 1
HEADER_KEY = "per_image"
_AGAIN = "judge again with `linear-eval run`"


@dataclass(frozen=True, eq=False, kw_only=True)
class PerImage:
    """All contestants' scores and predictions on the test images of one evaluation.

    Attributes:
        ids: M names.
        labels: (M,) int64, an index into `class_names`.
        class_names: of all classes.
        judged: the key of the judged backbone.
        scores: contestant -> metric -> (M,) float64 in [0, 1], NaN where it was not asked.
        predictions: contestant -> evaluator -> (M,) int64 class; the same contestants.
        by_class: metrics whose images are not independent: their unit is the class.
        backbone: what tells the judged backbone from others: `architecture`, `sha256`, `seed`.
    """

    ids: tuple[str, ...]
    labels: Array
    class_names: tuple[str, ...]
    judged: str
    scores: dict[str, dict[str, Array]]
    predictions: dict[str, dict[str, Array]]
    by_class: frozenset[str] = frozenset()
    backbone: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Assert that the columns belong together."""
        shape = (len(self.ids),)
        assert self.labels.shape == shape, (self.labels.shape, shape)
        assert self.scores.keys() == self.predictions.keys(), (self.scores, self.predictions)
        assert self.judged in self.scores, self.judged
        for columns in (*self.scores.values(), *self.predictions.values()):
            assert all(column.shape == shape for column in columns.values()), columns


def write_per_image(results_path: Path, per_image: PerImage) -> dict[str, str]:
    """Write the file, whole or not at all; to be called before `results.json` is written.

    Args:
        results_path: of the `results.json` it belongs to, `results.per_image.safetensors` beside.
        per_image: what is stored.

    Returns:
        The entry `per_image` of `results.json`: `file` (its name) and `sha256`.

    Raises:
        InputError: it cannot be written.
    """
    path = per_image_path(results_path)
    contestants = list(per_image.scores)
    header = {
        "format_version": FORMAT_VERSION,
        "contestants": contestants,
        "judged": per_image.judged,
        "backbone": per_image.backbone,
        "by_class": sorted(per_image.by_class),
        "class_names": per_image.class_names,
        "ids": per_image.ids,
    }
    tensors = {"labels": np.ascontiguousarray(per_image.labels)}
    for number, key in enumerate(contestants):
        for metric, scores in per_image.scores[key].items():
            tensors[f"{number}/scores/{metric}"] = _compact(scores)
        for evaluator, predicted in per_image.predictions[key].items():
            # the bytes of a strided column would be those of its neighbours
            tensors[f"{number}/predictions/{evaluator}"] = np.ascontiguousarray(predicted)
    # one metadata key only: safetensors writes several in no fixed order, and the digest would vary
    data = save(tensors, metadata={HEADER_KEY: json.dumps(header)})
    with atomic_file(path) as file:
        file.write(data)
    return {"file": path.name, "sha256": file_sha256(path)}


def per_image_path(results_path: Path) -> Path:
    """`results.json` -> `results.per_image.safetensors` in the same folder."""
    return results_path.with_name(f"{results_path.stem}.per_image.safetensors")


def read_per_image(results_path: Path, entry: dict[str, str] | None) -> PerImage:
    """Read the file that a `results.json` names.

    Args:
        results_path: of the `results.json`.
        entry: its `per_image`, see `write_per_image`; None if it has none.

    Raises:
        InputError: there is no such file, it belongs to another evaluation, or it is damaged.
    """
    if entry is None:
        raise InputError(f"{results_path}: names no file of per-image answers; {_AGAIN}")
    path = results_path.with_name(entry["file"])
    if not path.is_file():
        raise InputError(
            f"{path}: no such file, expected the per-image answers beside {results_path.name}; "
            f"copy it there, or {_AGAIN}"
        )
    try:
        if file_sha256(path) != entry["sha256"]:
            raise InputError(
                f"{path}: is not the file that {results_path.name} was written with, its sha256 "
                f"differs (damaged, or of another evaluation); copy both again, or {_AGAIN}"
            )
        with safe_open(path, framework="np") as file:
            header = _parse_header(path, file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path}: is no safetensors file [{error}]; {_AGAIN}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    return _assemble(header, tensors)


def _compact(scores: Array) -> Array:
    # one byte instead of eight where nothing is lost
    binary = is_binary(scores) and not bool(np.isnan(scores).any())
    return scores.astype(bool) if binary else scores.astype(np.float64)


def _parse_header(path: Path, metadata: dict[str, str] | None) -> dict[str, Any]:
    text = (metadata or {}).get(HEADER_KEY)
    header = json.loads(text) if text is not None else {}
    if header.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path}: format version {header.get('format_version')} of the metadata key "
            f"'{HEADER_KEY}', expected {FORMAT_VERSION}; {_AGAIN}"
        )
    return dict(header)


def _assemble(header: dict[str, Any], tensors: dict[str, Array]) -> PerImage:
    columns: dict[str, dict[str, dict[str, Array]]] = {
        kind: {key: {} for key in header["contestants"]} for kind in ("scores", "predictions")
    }
    labels = tensors.pop("labels")
    for name, tensor in tensors.items():
        number, kind, key = name.split("/", 2)
        contestant = header["contestants"][int(number)]
        columns[kind][contestant][key] = tensor.astype(np.float64) if kind == "scores" else tensor
    return PerImage(
        ids=tuple(header["ids"]),
        labels=labels,
        class_names=tuple(header["class_names"]),
        judged=header["judged"],
        by_class=frozenset(header["by_class"]),
        backbone=header.get("backbone"),  # earlier versions do not say
        **columns,
    )

"""Answers to a query: the nearest indexed images, and whether their files have changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linear_eval.own_images.image_index import ImageIndex
from linear_eval.system.atomic_file import atomic_file

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Neighbour:
    """One answer.

    Attributes:
        rank: from 1.
        score: cosine.
        name: of the image.
        path: of the image, if it has one.
        has_changed: whether its file holds something else than when it was indexed.
    """

    rank: int
    score: float
    name: str
    path: Path | None
    has_changed: bool

    @property
    def shown(self) -> str:
        """The path, or else the name."""
        return str(self.path or self.name)


def neighbours_of(index: ImageIndex, scores: Tensor, rows: Tensor) -> list[Neighbour]:
    """The answers to one query: scores (k,) and rows (k,), best first; row -1: none."""
    found = [(score, row) for score, row in zip(scores.tolist(), rows.tolist(), strict=True)]
    return [
        Neighbour(rank, score, index.ids[row], index.path_of(row), index.has_changed(row))
        for rank, (score, row) in enumerate(found, start=1)
        if row >= 0
    ]


def changes(index: ImageIndex, found: Sequence[Sequence[Neighbour]]) -> list[str]:
    """Lines about images that are not, or may not be, those that were indexed."""
    if changed := sum(each.has_changed for neighbours in found for each in neighbours):
        return [
            f"{changed} of the images found have other contents than when they were indexed; make "
            "the index again"
        ]
    if index.digests is None and index.folder is not None:
        return [
            "an earlier version made the index: whether its images changed is not known, and they "
            "were read as stored, not turned upright"
        ]
    return []


def write_answers(
    path: Path,
    index_folder: Path,
    images: Sequence[Path],
    found: Sequence[Sequence[Neighbour]],
    notes: Sequence[str],
) -> None:
    """Write the answers to all queries, and all notes, as JSON."""
    queries: list[dict[str, Any]] = [
        {
            "image": str(image),
            "neighbours": [
                {"rank": each.rank, "score": each.score, "image": each.shown} for each in neighbours
            ],
        }
        for image, neighbours in zip(images, found, strict=True)
    ]
    text = json.dumps({"index": str(index_folder), "queries": queries, "notes": notes}, indent=2)
    with atomic_file(path) as file:
        file.write(f"{text}\n".encode("ascii"))

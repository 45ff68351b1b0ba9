"""The flow of `linear-eval index`: features of one split as an index that can be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from linear_eval.datasets import DatasetConfig
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decoding import Decoding, ImageFileSettings
from linear_eval.features.rows import require_finite, unit_rows
from linear_eval.features.table import FeatureTable
from linear_eval.own_images.data_argument import SplitName
from linear_eval.own_images.image_index import (
    ImageIndex,
    IndexManifest,
    check_index_output,
    write_index,
)
from linear_eval.own_images.split_features import extract_split
from linear_eval.search.faiss_index import Kind, build_index, measure_recall
from linear_eval.search.faiss_library import open_faiss
from linear_eval.system.printable import one_line, shortened


def index_images(  # noqa: PLR0913 - one for every option of the command
    backbone: Path,
    data: str,
    overrides: Sequence[str],
    *,
    split_name: SplitName,
    kind: Kind,
    output: Path,
    overwrite: bool,
    verbose: bool = False,
) -> None:
    """Write a folder with an index of one split's images by cosine similarity.

    Args:
        backbone: a backbone file; the index remembers its path and its sha256.
        data: a config (path or packaged name), or a folder of images.
        overrides: `key=value` texts.
        split_name: which split.
        kind: of index; see `build_index`.
        output: the folder to be made.
        overwrite: whether an index that is there is replaced.
        verbose: whether all notes are printed.

    Raises:
        InputError: any of these is wrong, or faiss is missing; nothing was written.
    """
    check_index_output(output, overwrite)
    open_faiss()  # missing, this should not be found out after an hour of features
    found = extract_split(backbone, data, overrides, split_name=split_name, output=output)
    made = indexed(
        found.table,
        found.split,
        kind=kind,
        backbone={
            "path": str(backbone.absolute()),
            "sha256": found.backbone_sha256,
            "architecture": found.backbone.architecture,
        },
        images=asdict(found.config.transform())
        | {"pixels": list(found.pixels), "decoding": _decoding(found.config.data)},
        data={
            "name": found.config.data.name,
            "split": split_name,
            "fingerprint": found.split.fingerprint,
        },
    )
    write_index(output, made)
    recall, notes = made.manifest.recall_at_10, list(found.notes)
    if made.folder is None:
        notes.append("these images are no files of their own; answers name them, sheets show none")
    for line in shortened([f"note: {one_line(note)}" for note in notes], verbose=verbose):
        print(line)
    if recall is not None:
        print(f"recall@10 against exact search: {100 * recall:.1f} %")
    print(f"written: {output} ({len(made.ids)} images, {kind})")


def indexed(
    table: FeatureTable,
    split: ImageSplit,
    *,
    kind: Kind,
    backbone: dict[str, str],
    images: dict[str, Any],
    data: dict[str, str],
) -> ImageIndex:
    """An index of features by cosine similarity, in memory.

    Args:
        table: of the images that could be read.
        split: all of them.
        kind: of index; see `build_index`.
        backbone: see `IndexManifest`; likewise `images` and `data`.

    Raises:
        InputError: a feature is not finite, or faiss is missing.
    """
    require_finite(table.features, "features")
    rows = unit_rows(table.features)
    index = build_index(rows, kind)
    manifest = IndexManifest(
        kind=kind,
        rows=rows.shape[0],
        width=rows.shape[1],
        recall_at_10=None if kind == "flat" else measure_recall(index, rows),
        backbone=backbone,
        images=images,
        data=data,
        files={},
    )
    digests = _digests(split, table.ids) if table.is_checked else None
    return ImageIndex(index, split.folder, table.ids, digests, manifest)


def _decoding(data: DatasetConfig) -> dict[str, Any]:
    """How query images are read: as the indexed ones; upright if those were no files."""
    if isinstance(data, ImageFileSettings):
        return asdict(data.decoding)
    return asdict(Decoding(orientation="exif"))


def _digests(split: ImageSplit, ids: tuple[str, ...]) -> tuple[str, ...] | None:
    """What each image's file holds, as hex; None where the images are no files."""
    if split.contents is None:
        return None
    row_of = {name: row for row, name in enumerate(split.ids)}
    digests = split.contents.digests(torch.tensor([row_of[name] for name in ids]))
    return tuple(bytes(row).hex() for row in digests.numpy())

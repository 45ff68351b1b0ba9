"""An index of images on disk: one folder, whole or not there at all.

index.faiss holds the rows; ids.json the folder of the images, and the name and digest of each row's
image; manifest.json what made the index, and the sha256 of the other two.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linear_eval.datasets.contents import content_digest
from linear_eval.datasets.decoding import Decoding
from linear_eval.search.faiss_index import Kind, read_faiss, search_index, write_faiss
from linear_eval.system.atomic_file import check_new, check_stays, file_sha256
from linear_eval.system.atomic_folder import atomic_folder
from linear_eval.system.errors import InputError
from linear_eval.system.printable import one_line, printable

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 1
_INDEX, _IDS, _MANIFEST = "index.faiss", "ids.json", "manifest.json"


@dataclass(frozen=True, kw_only=True)
class IndexManifest:
    """What an index was made of.

    Attributes:
        kind: of the faiss index.
        metric: of its scores.
        rows: number of images.
        width: of a feature.
        recall_at_10: of an approximate index against exact search, in [0, 1]; None for flat.
        backbone: `path`, `sha256` and `architecture`.
        images: `resize`, `crop`, `pixels` (height, width) that came out, `decoding` of files.
        data: `name`, `split`, `fingerprint`.
        files: sha256 of each other file.
        format_version: of this folder.
    """

    kind: Kind
    metric: str = "cosine"
    rows: int
    width: int
    recall_at_10: float | None
    backbone: dict[str, str]
    images: dict[str, Any]
    data: dict[str, str]
    files: dict[str, str]
    format_version: int = FORMAT_VERSION

    @property
    def decoding(self) -> Decoding:
        """How images are read, indexed or asked for."""
        return Decoding(**self.images.get("decoding", {}))


_KEYS, _ALWAYS = {each.name for each in fields(IndexManifest)}, {"format_version", "kind", "rows"}


@dataclass(frozen=True, eq=False)
class ImageIndex:
    """An opened index.

    Attributes:
        index: the faiss index.
        folder: where the images lie; None where they are no files of their own.
        ids: name of each row's image, a path below `folder` if there is one.
        digests: of each image's file, hex; None in an index of an earlier version, or of no files.
        manifest: what made it.
    """

    index: Any
    folder: Path | None
    ids: tuple[str, ...]
    digests: tuple[str, ...] | None
    manifest: IndexManifest

    def path_of(self, row: int) -> Path | None:
        """Path of the image of a row, also if it is gone."""
        return None if self.folder is None else self.folder / self.ids[row]

    def has_changed(self, row: int) -> bool:
        """Whether the image of a row is there and has changed since it was indexed."""
        path = self.path_of(row)
        if path is None or self.digests is None or not path.is_file():
            return False
        return content_digest(path.read_bytes()).hex() != self.digests[row]

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Cosines (Q, k) and rows (Q, k), best first; row -1: no further one was found.

        Raises:
            InputError: k is larger than the index.
        """
        if not 1 <= k <= len(self.ids):
            raise InputError(
                f"--k: {k} neighbours out of {len(self.ids)} indexed images, expected 1 to "
                f"{len(self.ids)}; choose one of them"
            )
        return search_index(self.index, queries, k)


def check_index_output(output: Path, overwrite: bool) -> None:
    """Refuse a place where `write_index` could not put a folder, before anything is computed.

    Raises:
        InputError: it exists and is not to be replaced, or is no index and so never will be; or its
            parent is missing or read-only.
    """
    if not output.absolute().parent.is_dir():
        raise InputError(f"--output: {output.absolute().parent}: no such folder; create it first")
    check_new(output, "--output")
    check_stays(output, "--output", overwrite=overwrite)
    if not output.exists():
        return
    if not (output / _MANIFEST).is_file() or len(list(output.iterdir())) != 3:
        raise InputError(
            f"--output: {output} exists and is more than an index, expected one to replace; "
            "choose another name"
        )


def write_index(output: Path, made: ImageIndex) -> None:
    """Write an index; an older one at `output` is replaced at the end.

    Args:
        output: see `check_index_output`.
        made: in memory; what its manifest says of files is not looked at.

    Raises:
        InputError: it cannot be written; what was at `output` is still there.
    """
    try:
        with atomic_folder(output.absolute()) as part:
            write_faiss(made.index, part / _INDEX)
            folder = made.folder and str(made.folder)
            names = {"folder": folder, "ids": made.ids, "digests": made.digests}
            (part / _IDS).write_text(json.dumps(names), encoding="ascii")
            files = {name: file_sha256(part / name) for name in (_INDEX, _IDS)}
            manifest = json.dumps(asdict(replace(made.manifest, files=files)), indent=2)
            (part / _MANIFEST).write_text(manifest + "\n", encoding="ascii")
    except OSError as error:
        raise InputError(
            f"{output.absolute()}: cannot be written ({error.strerror or error}); "
            "give a path in a folder that can be written to and has room"
        ) from error


def read_index(folder: Path) -> ImageIndex:
    """Open an index; every file is compared with its checksum.

    Raises:
        InputError: it is missing, of another version, truncated or damaged.
    """
    manifest = read_manifest(folder)
    for name in (_INDEX, _IDS):
        try:
            found = file_sha256(folder / name)
        except OSError as error:
            raise InputError(f"{folder / name}: cannot be read ({error.strerror})") from error
        if found != manifest.files.get(name):
            raise InputError(
                f"{folder / name}: is truncated or damaged, expected the sha256 that "
                f"{_MANIFEST} gives; make the index again"
            )
    index = read_faiss(folder / _INDEX)
    names = json.loads((folder / _IDS).read_text(encoding="ascii"))
    if not index.ntotal == len(names["ids"]) == manifest.rows or index.d != manifest.width:
        raise InputError(
            f"{folder}: {index.ntotal} rows of {index.d} numbers and {len(names['ids'])} names, "
            f"expected {manifest.rows} of {manifest.width}; make the index again"
        )
    place = None if names["folder"] is None else Path(names["folder"])
    digests = names.get("digests") and tuple(names["digests"])
    return ImageIndex(index, place, tuple(names["ids"]), digests, manifest)


def read_manifest(folder: Path) -> IndexManifest:
    """What an index was made of.

    Raises:
        InputError: there is none, or it is of another version.
    """
    path = folder / _MANIFEST
    if not path.is_file():
        raise InputError(
            f"{printable(str(folder))}: holds no {_MANIFEST}, expected an index; "
            "make one with `linear-eval index`"
        )
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: is damaged ({one_line(str(error))}), expected the manifest of an index; "
            "make the index again"
        ) from error
    if not isinstance(said, dict) or not said.keys() >= _ALWAYS:
        raise InputError(
            f"{printable(str(folder))}: its {_MANIFEST} is not that of an index, expected a folder "
            "that `linear-eval index` wrote; give that folder"
        )
    if said["format_version"] != FORMAT_VERSION or said.keys() != _KEYS:
        raise InputError(
            f"{path}: is of format version {said['format_version']}, expected {FORMAT_VERSION} "
            "with its keys; make the index again"
        )
    return IndexManifest(**said)

"""The flow of `linear-eval query`: which indexed images are most like these?

Shapes: Q queries, D feature width, k neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval.backbones.backbone_file import backbone_notes, file_sha256, load_backbone
from linear_eval.datasets.decode import BadImageError, decode_image
from linear_eval.datasets.decoding import Decoding
from linear_eval.evaluation.config import SpeedConfig
from linear_eval.features.table import frozen
from linear_eval.own_images.answers import Neighbour, changes, neighbours_of, write_answers
from linear_eval.own_images.contact_sheet import SheetImage, SheetRow, thumbnail, write_sheet
from linear_eval.own_images.image_index import (
    ImageIndex,
    IndexManifest,
    read_index,
    read_manifest,
)
from linear_eval.own_images.query_features import query_features, read_query
from linear_eval.system.atomic_file import Reads, check_output, check_suffix
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable, shortened

if TYPE_CHECKING:
    from torch import Tensor


def query(  # noqa: PLR0913 - the options of a command, each by its name
    index_folder: Path,
    images: Sequence[Path],
    *,
    k: int,
    backbone: Path | None,
    sheet: Path | None,
    answers: Path | None,
    max_pixels: int | None = None,
    verbose: bool = False,
    overwrite: bool = False,
) -> None:
    """Print the k nearest indexed images of every query image, one line each.

    Args:
        index_folder: from `linear-eval index`.
        images: the queries.
        k: how many neighbours.
        backbone: the backbone file; None: where the index says it lies.
        sheet: a PNG to be written with the images.
        answers: a JSON file to be written with the answers, and all notes.
        max_pixels: of an image; None: as when the index was made.
        verbose: whether all notes are printed.
        answers: a JSON file to be written with the answers.
        overwrite: whether files that exist are replaced.

    Raises:
        InputError: any of these is wrong.
    """
    reads = {"one of the query images": images, "part of the index": index_folder.glob("*")}
    _check_outputs(sheet, answers, overwrite, {words: [*files] for words, files in reads.items()})
    index = read_index(index_folder)
    indexed = [path for path in (sheet, answers) if path is not None and _is_in(index, path)]
    _check_outputs(sheet, answers, overwrite, {"one of the indexed images": indexed})
    notes: list[str] = []
    network = find_backbone(index_folder, backbone)
    decoding = index.manifest.decoding
    decoding = replace(decoding, max_pixels=max_pixels or decoding.max_pixels)
    features, pictures = _embed(images, index.manifest, decoding, network, notes)
    scores, rows = index.search(features, k)
    found = [neighbours_of(index, *pair) for pair in zip(scores, rows, strict=True)]
    notes += [
        f"{printable(str(path))}: only {len(neighbours)} of {k} were found"
        for path, neighbours in zip(images, found, strict=True)
        if len(neighbours) < k
    ]
    notes += changes(index, found)
    # files first: the reader of what is printed may go away
    written = [path for path in (sheet, answers) if path is not None]
    if sheet is not None:
        _write_sheet(sheet, images, pictures, found, decoding, notes)
    if answers is not None:
        write_answers(answers, index_folder, images, found, notes)
    for path, neighbours in zip(images, found, strict=True):
        for each in neighbours:
            line = (str(path), str(each.rank), f"{each.score:.4f}", each.shown)
            print("\t".join(printable(text) for text in line))
    for note in shortened([f"note: {each}" for each in notes], verbose=verbose):
        print(note)
    for path in written:
        print(f"written: {path}")


def _is_in(index: ImageIndex, path: Path) -> bool:
    """Whether a file is one of the indexed images."""
    if index.folder is None or not path.resolve().is_relative_to(index.folder.resolve()):
        return False
    return path.resolve().relative_to(index.folder.resolve()).as_posix() in index.ids


def find_backbone(index_folder: Path, given: Path | None) -> Path:
    """The backbone file that an index was made with.

    Args:
        index_folder: from `linear-eval index`.
        given: where the user says it is; None: where it was.

    Raises:
        InputError: it is not there, or is another one.
    """
    said = read_manifest(index_folder).backbone
    path = Path(said["path"]) if given is None else given
    if not path.is_file():
        raise InputError(
            f"{printable(str(path))}: no such file, expected the backbone that {index_folder} was "
            "made with; give its path as --backbone FILE"
        )
    if file_sha256(path) != said["sha256"]:
        raise InputError(
            f"{printable(str(path))}: is another backbone than that of {index_folder}, expected "
            f"sha256 {said['sha256'][:12]}...; give the path of that one as --backbone FILE, or "
            "make the index again"
        )
    return path


def _check_outputs(sheet: Path | None, answers: Path | None, overwrite: bool, reads: Reads) -> None:
    for option, path, suffix in (("--sheet", sheet, ".png"), ("--json", answers, ".json")):
        if path is None:
            continue
        check_suffix(path, option, suffix)
        check_output(path, option, overwrite=overwrite, reads=reads)


def _embed(
    paths: Sequence[Path],
    manifest: IndexManifest,
    decoding: Decoding,
    backbone: Path,
    notes: list[str],
) -> tuple[Tensor, list[Tensor]]:
    """Unit rows (Q, D) on the CPU, and a small picture of each image."""
    network, info = load_backbone(backbone)
    notes.extend(backbone_notes(backbone))
    device = SpeedConfig().open_device()
    pictures = []

    def read() -> Iterator[tuple[str, Tensor]]:
        for path in paths:
            image = read_query(path, decoding)
            pictures.append(thumbnail(image))  # the images themselves may not fit into memory
            yield str(path), image

    with frozen(network, mean=info.mean, std=info.std, device=device) as embed:
        return query_features(read(), manifest, embed, notes), pictures


def _write_sheet(
    path: Path,
    images: Sequence[Path],
    pictures: Sequence[Tensor],
    found: Sequence[Sequence[Neighbour]],
    decoding: Decoding,
    notes: list[str],
) -> None:
    paths = dict.fromkeys(each.path for neighbours in found for each in neighbours)
    small = {each: _read_neighbour(each, decoding, notes) for each in paths}
    rows = [
        SheetRow(
            SheetImage(picture, "query", image.name),
            [
                SheetImage(small[each.path], f"{each.rank}.  {each.score:.3f}", each.name)
                for each in neighbours
            ],
        )
        for image, picture, neighbours in zip(images, pictures, found, strict=True)
    ]
    if legend := write_sheet(path, rows):
        notes.append(f"no font here has the letters of some names; {legend} says what is which")


def _read_neighbour(path: Path | None, decoding: Decoding, notes: list[str]) -> Tensor | None:
    """A small picture of an indexed image; None, and a note, if it cannot be read."""
    if path is None:
        return None
    try:
        return thumbnail(decode_image(path, str(path), decoding))
    except BadImageError:
        notes.append(f"{printable(str(path))}: cannot be read any more, shown as a grey tile")
        return None

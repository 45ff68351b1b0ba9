"""Whether images are still those that something on the disk was made from.

Their digests lie beside what was made, and in `stamps.bin` the stamps that the files had then. A
file with an equal stamp is taken as unchanged; of the others the digests decide, and the stamps
that were found to go with the same content are kept, so that a copy or a move of the images is
read once. `stamps.bin` is a hint: without it all files are read.

Shapes: M images.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from linear_eval.atomic_file import atomic_file
from linear_eval.datasets.contents import NO_TIME, STAMP_NUMBERS, Contents
from linear_eval.datasets.image_files import few
from linear_eval.errors import InputError

STAMPS = "stamps.bin"


def write_stamps(folder: Path, contents: Contents) -> None:
    """Keep the stamps of images in a folder.

    Raises:
        InputError: they cannot be written.
    """
    with atomic_file(folder / STAMPS) as file:
        file.write(contents.stamps.numpy().tobytes())


def changed_images(folder: Path, digests: Tensor, contents: Contents) -> Tensor:
    """Positions (K,) of the images that are others than those with these digests.

    Reads the files whose stamps are not those in `folder`, and keeps the new ones there if all
    images are the same and the folder can be written to. What is found is noted in `contents`.

    Args:
        folder: of the stamps.
        digests: (M, 16) uint8, of the images that there were.
        contents: of the M images that there are.
    """
    doubtful = ~_trusted(folder, contents)
    contents.learn((~doubtful).nonzero()[:, 0], digests[~doubtful])
    rows = doubtful.nonzero()[:, 0]
    changed = rows[(contents.digests(rows) != digests[rows]).any(dim=1)]
    if len(rows) and not len(changed):
        with suppress(InputError):  # read-only: the files are read again the next time
            write_stamps(folder, contents)
    return changed


def others_now(changed: Tensor, ids: tuple[str, ...]) -> str:
    """What there is to say of images that changed, as a clause."""
    names = few([ids[row] for row in changed.tolist()])
    return f"{len(changed)} of {len(ids)} images have other contents now ({names})"


def _trusted(folder: Path, contents: Contents) -> Tensor:
    """Whether each image has the stamp that is kept; (M,) bool."""
    stamps = contents.stamps
    try:
        stored = bytearray((folder / STAMPS).read_bytes())
    except OSError:
        stored = bytearray()
    del stored[stamps.numel() * stamps.itemsize :]  # more, if these are the first of its images
    if len(stored) != stamps.numel() * stamps.itemsize or not len(stored):
        return torch.zeros(len(stamps), dtype=torch.bool)
    then = torch.frombuffer(stored, dtype=torch.int64).view(-1, STAMP_NUMBERS)
    return (then == stamps).all(dim=1) & (stamps[:, 1] != NO_TIME)

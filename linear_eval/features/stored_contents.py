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
from typing import TYPE_CHECKING

import torch

from linear_eval.datasets.contents import NO_TIME, STAMP_NUMBERS, Contents
from linear_eval.datasets.image_files import few
from linear_eval.system.atomic_file import atomic_file
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

STAMPS = "stamps.bin"


def write_stamps(folder: Path, stamps: Tensor) -> None:
    """Keep the stamps (M, 4) of images in a folder.

    Raises:
        InputError: they cannot be written.
    """
    with atomic_file(folder / STAMPS) as file:
        file.write(stamps.numpy().tobytes())


def changed_images(
    folder: Path, digests: Tensor, contents: Contents, places: Tensor | None = None
) -> Tensor:
    """Positions (K,) of the images that are others than those with these digests.

    Reads the files whose stamps are not those in `folder`, and keeps the new ones there if all
    images are the same and the folder can be written to. What is found is noted in `contents`.

    Args:
        folder: of the stamps.
        digests: (M, 16) uint8, of the images that there were.
        contents: of the M images that there are.
        places: (M,) int64, where each stands in the folder; None: the first M in their order.
    """
    now = contents.stamps
    places = torch.arange(len(now)) if places is None else places
    if not len(places):
        return places
    then = _stored_stamps(folder)
    if then is None or len(then) <= int(places.max()):
        then = torch.full((int(places.max()) + 1, STAMP_NUMBERS), NO_TIME)
    same = (then[places] == now).all(dim=1)
    doubtful = ~same | (now[:, 1] == NO_TIME)
    contents.learn((~doubtful).nonzero()[:, 0], digests[~doubtful])
    rows = doubtful.nonzero()[:, 0]
    changed = rows[(contents.digests(rows) != digests[rows]).any(dim=1)]
    if len(rows) and not len(changed):
        then[places] = now
        with suppress(InputError):  # read-only: the files are read again the next time
            write_stamps(folder, then)
    return changed


def others_now(changed: Tensor, ids: tuple[str, ...]) -> str:
    """What there is to say of images that changed, as a clause."""
    names = few([ids[row] for row in changed.tolist()])
    return f"{len(changed)} of {len(ids)} images have other contents now ({names})"


def _stored_stamps(folder: Path) -> Tensor | None:
    """(M', 4) int64; None where there are none that can be read."""
    try:
        stored = bytearray((folder / STAMPS).read_bytes())
    except OSError:
        return None
    if not stored or len(stored) % (8 * STAMP_NUMBERS):
        return None
    return torch.frombuffer(stored, dtype=torch.int64).view(-1, STAMP_NUMBERS)

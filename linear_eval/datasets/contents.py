"""What image files hold: a digest of each one's bytes, and a stamp that spares reading them.

Names and sizes do not tell images apart: all bitmaps of one height and width have one size. So
whatever is made of images (features, a packed store, a run) keeps their digests and stamps. A file
with the same stamp is taken as unchanged. Otherwise it is read, and the digest decides. Digests are
noted whenever the bytes are read anyway.

Shapes: M files, K images of a split.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from linear_eval.system.cores import reading_threads
from linear_eval.system.serial_threads import serial_threads

if TYPE_CHECKING:
    from torch import Tensor

DIGEST_BYTES = 16
STAMP_NUMBERS = 4
NO_TIME = 0  # in place of a modification time that tells nothing
_YOUNG_NS = 2 * 10**9  # file systems count time in steps of up to two seconds

Stamp = tuple[int, int, int, int]
"""Size in bytes (-1: unreadable), modification time in ns, number of the file on its disk, and the
time in ns at which any of these or its content was last changed, which no program can set back:
`cp -p` and `tar` write over a file and give it any modification time."""


class FileContents:
    """The files of a split: their stamps when they were listed, their digests once they are read.

    Threads may note digests at the same time.

    Attributes:
        folder: where the paths begin.
        paths: M of them.
        stamps: (M, 4) int64, see `Stamp`. A file that was changed less than two seconds before it
            was listed has NO_TIME: it could be changed once more without another time.
        noting: whether reading an image notes its digest; off where nobody asks for it.
    """

    def __init__(self, folder: Path, paths: tuple[str, ...], stamps: Sequence[Stamp]) -> None:
        """Nothing is read yet."""
        self.folder = folder
        self.paths = paths
        self.stamps = torch.tensor(
            [
                (size, time_ns, _signed(number), changed)
                for size, time_ns, number, changed in stamps
            ],
            dtype=torch.int64,
        ).view(-1, STAMP_NUMBERS)
        young = self.stamps[:, [1, 3]].amax(dim=1) > time.time_ns() - _YOUNG_NS
        self.stamps[young, 1] = NO_TIME
        self.noting = True
        self._digests = torch.zeros(len(paths), DIGEST_BYTES, dtype=torch.uint8)
        self._known = torch.zeros(len(paths), dtype=torch.bool)

    def note(self, row: int, content: bytes) -> None:
        """Note the digest of a file from its bytes."""
        if self.noting:
            self._digests[row] = _digest(content)
            self._known[row] = True

    def learn(self, rows: Tensor, digests: Tensor) -> None:
        """Set digests (K, 16) uint8 of files `rows` (K,) that another process has read."""
        self._digests[rows] = digests
        self._known[rows] = True

    def known(self, rows: Tensor) -> Tensor:
        """Whether the digests of files `rows` (K,) are known without reading them; (K,) bool."""
        return self._known[rows]

    def digests(self, rows: Tensor) -> Tensor:
        """Digests (K, 16) uint8 of files `rows` (K,); reads those that are not known.

        A file that cannot be read has a digest of zeros.
        """
        unknown = rows[~self._known[rows]].unique()
        if len(unknown):
            with serial_threads(reading_threads(), "digest") as threads:
                found = list(threads.map(self._read_digest, unknown.tolist()))
            self.learn(unknown, torch.stack(found))
        return self._digests[rows]

    def _read_digest(self, row: int) -> Tensor:
        try:
            content = (self.folder / self.paths[row]).read_bytes()
        except OSError:  # reading the image reports it
            return torch.zeros(DIGEST_BYTES, dtype=torch.uint8)
        return _digest(content)


@dataclass(frozen=True, eq=False)
class Contents:
    """What the images of a split hold.

    Attributes:
        files: those of the whole split that this one is a part of.
        rows: (K,) int64, which of them.
    """

    files: FileContents
    rows: Tensor

    @classmethod
    def of(cls, files: FileContents) -> Contents:
        """All of the files."""
        return cls(files, torch.arange(len(files.paths)))

    @property
    def stamps(self) -> Tensor:
        """(K, 4) int64, see `Stamp`."""
        return self.files.stamps[self.rows]

    @property
    def are_known(self) -> bool:
        """Whether all digests are known without reading a file."""
        return bool(self.files.known(self.rows).all())

    def select(self, indices: Tensor) -> Contents:
        """Those of some images (L,), in the order given."""
        return Contents(self.files, self.rows[indices])

    def digests(self, indices: Tensor | slice = slice(None)) -> Tensor:
        """Digests of some images or all, (L, 16) uint8; files that were not read yet are read."""
        return self.files.digests(self.rows[indices])

    def learn(self, indices: Tensor, digests: Tensor) -> None:
        """Set digests (L, 16) of images `indices` (L,) that another process has read."""
        self.files.learn(self.rows[indices], digests)


def changed_since(earlier: Contents | None, now: Contents | None) -> bool:
    """Whether any image has changed; reads files whose stamps differ."""
    if earlier is None or now is None:
        return False
    before, after = earlier.stamps, now.stamps
    doubtful = (before != after).any(dim=1) | (after[:, 1] == NO_TIME)
    rows = doubtful.nonzero()[:, 0]
    return not torch.equal(earlier.digests(rows), now.digests(rows))


def joined_contents(parts: Sequence[Contents | None]) -> Contents | None:
    """Contents of the images of several parts of one split, one below the other."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    assert len(known) == len(parts) and len({id(part.files) for part in known}) == 1
    return Contents(known[0].files, torch.cat([part.rows for part in known]))


def content_digest(content: bytes) -> bytes:
    """16 bytes that differ for different contents."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def _digest(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content_digest(content)), dtype=torch.uint8)


def _signed(number: int) -> int:
    """A 64-bit number as torch holds it."""
    return number - 2**64 if number >= 2**63 else number

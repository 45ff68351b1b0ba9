"""Rows of features on disk, as sealed blocks: what their lines say.

A folder holds `features.bin`, which is the rows and nothing else, and `manifest.jsonl`: a first
line that says whose rows these are, a line per block, and a last line once all rows are there;
where the images are files, `digests.bin` as well: 16 bytes an image, read or not. A block's SHA-256
covers its bytes and its line, and the last line's covers the manifest. Everything is checked
whenever a folder is opened: a second or two for ImageNet's 5 GB of 2,048 half-precision features.

Shapes: D feature width.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from linear_eval.datasets.contents import DIGEST_BYTES
from linear_eval.system.sealed_blocks import Seal, count_sound, to_line

if TYPE_CHECKING:
    from torch import Tensor

DATA, MANIFEST, DIGESTS = "features.bin", "manifest.jsonl", "digests.bin"


class DamagedError(Exception):
    """A folder's rows cannot be used; the message says why."""


@dataclass(frozen=True)
class Block:
    """Consecutive rows of one file.

    Attributes:
        rows: how many.
        width: D.
        image_height: of the images that the rows were made from.
        image_width: likewise.
        end: position in the split behind the block's last image.
        skipped: positions of its images that could not be read and have no row.
        sha256: of the rows' bytes and the other attributes.
        digests_sha256: of the digests of all its images; empty where there are none, as in tables
            of earlier versions.
    """

    rows: int
    width: int
    image_height: int
    image_width: int
    end: int
    skipped: tuple[int, ...]
    sha256: str = ""
    digests_sha256: str = ""

    def line(self) -> bytes:
        """The block as a line of the manifest."""
        record = asdict(self)
        if not self.digests_sha256:
            del record["digests_sha256"]
        return to_line(record)

    @classmethod
    def from_line(cls, line: bytes) -> Block | None:
        """Read a line; None if it is none that `line` writes."""
        try:
            block = cls(**json.loads(line))
            block = replace(block, skipped=tuple(block.skipped))
        except (ValueError, TypeError):
            return None
        numbers = (block.rows, block.width, block.image_height, block.image_width, block.end)
        are_numbers = all(type(n) is int and n >= 0 for n in (*numbers, *block.skipped))
        are_texts = type(block.sha256) is type(block.digests_sha256) is str
        return block if are_numbers and are_texts and block.line() == line else None

    def follows(self, previous: Block | None) -> bool:
        """Whether the block begins where the previous one ends, with rows of the same kind."""
        start = previous.end if previous else 0
        same = previous is None or self.kind == previous.kind
        return same and self.rows + len(self.skipped) == self.end - start

    def num_bytes(self, dtype: str) -> int:
        """Size of the rows."""
        return self.rows * self.width * np.dtype(dtype).itemsize

    def seal(self, dtype: str) -> Seal:
        """What the rows are compared with."""
        said = replace(self, sha256="").line()
        return Seal(self.num_bytes(dtype), self.sha256, said)

    @property
    def kind(self) -> tuple[int, int, int]:
        """What all blocks of a file share: width of features, height and width of images."""
        return self.width, self.image_height, self.image_width


def read_blocks(folder: Path, header: dict[str, Any], dtype: str) -> tuple[list[Block], bool]:
    """The sound blocks of a folder, every byte of them checked, and whether they are all there is.

    Raises:
        DamagedError: a file is missing, or the manifest was written for another header.
    """
    try:
        manifest, size = (folder / MANIFEST).read_bytes(), (folder / DATA).stat().st_size
        lines = manifest.splitlines(keepends=True)
        if lines[:1] != [to_line(header)]:
            raise DamagedError("its manifest belongs to other features, or is damaged")
        blocks = _readable_blocks(lines[1:])
        sound = blocks[: count_sound(folder / DATA, [block.seal(dtype) for block in blocks])]
    except FileNotFoundError as error:
        raise DamagedError(f"{Path(str(error.filename)).name} is missing") from error
    except OSError as error:
        raise DamagedError(f"it cannot be read: {error.strerror or error}") from error
    is_whole = sum(block.num_bytes(dtype) for block in sound) == size
    is_last = len(lines) == len(sound) + 2 and lines[-1] == last_line(b"".join(lines[:-1]))
    return sound, is_whole and is_last


def read_digests(folder: Path, blocks: list[Block]) -> Tensor | None:
    """Digests (M, 16) uint8 of the images of some blocks; None where none were kept.

    Raises:
        DamagedError: they are not those that were written.
    """
    if not all(block.digests_sha256 for block in blocks):
        return None
    try:
        content = bytearray((folder / DIGESTS).read_bytes())
    except OSError as error:
        raise DamagedError(f"{DIGESTS} cannot be read: {error.strerror or error}") from error
    start = 0
    for block in blocks:
        part = content[start * DIGEST_BYTES : block.end * DIGEST_BYTES]
        if hashlib.sha256(part).hexdigest() != block.digests_sha256:
            raise DamagedError(f"{DIGESTS} is damaged")
        start = block.end
    del content[start * DIGEST_BYTES :]
    return torch.frombuffer(content, dtype=torch.uint8).view(-1, DIGEST_BYTES)


def last_line(manifest: bytes) -> bytes:
    """The line that declares the lines above it complete."""
    return to_line({"complete": hashlib.sha256(manifest).hexdigest()})


def _readable_blocks(lines: list[bytes]) -> list[Block]:
    blocks: list[Block] = []
    for line in lines:
        block = Block.from_line(line)
        if block is None or not block.follows(blocks[-1] if blocks else None):
            break
        blocks.append(block)
    return blocks

"""Images on their way into a store: appended to one file, as sealed blocks.

The first line of the log, `progress.jsonl`, says what is packed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch

from linear_eval.datasets.contents import DIGEST_BYTES, Contents
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.features.stored_contents import changed_images, write_stamps
from linear_eval.system.sealed_blocks import BlockFile, Seal, count_sound, to_line
from ssl_bf.pixels.packed_store import DATA

PROGRESS = "progress.jsonl"
BLOCK_BYTES = 2**26  # a block is sealed when it has as many

Bytes = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


@dataclass(frozen=True)
class Packed:
    """Consecutive images of the file.

    Attributes:
        lengths: bytes of each; 0 for a bad one.
        sizes: height and width of each.
        bad_images: message of each that could not be decoded, by id.
        sha256: of the block's bytes.
        digests: of each image's file, in hex; empty where the images are no files, and in what
            earlier versions began.
    """

    lengths: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    bad_images: dict[str, str] = field(default_factory=dict)
    sha256: str = ""
    digests: list[str] = field(default_factory=list)

    @property
    def num_bytes(self) -> int:
        """Of all images."""
        return sum(self.lengths)

    def line(self) -> bytes:
        """The block as a line, which ends in its own checksum."""
        record = asdict(self)
        if not self.digests:
            del record["digests"]
        return to_line({"block": record, "sha256": hashlib.sha256(to_line(record)).hexdigest()})

    @classmethod
    def from_line(cls, line: bytes) -> Packed | None:
        """Read a line; None if it is none that `line` writes."""
        try:
            block = cls(**json.loads(line)["block"])
        except (ValueError, TypeError, KeyError):
            return None
        return block if block.line() == line else None


class BlockWriter:
    """Appends images behind the blocks that a folder already holds.

    Leaving the `with` block drops what was not sealed.
    """

    def __init__(
        self,
        folder: Path,
        header: dict[str, Any],
        blocks: list[Packed],
        contents: Contents | None = None,
    ) -> None:
        """Drop whatever the folder holds behind `blocks`; keep digests if there are `contents`."""
        self.blocks = list(blocks)
        self._contents = contents
        self._open = Packed()
        lines = [to_line(header), *(block.line() for block in blocks)]
        sealed_bytes = sum(block.num_bytes for block in blocks)
        self._file = BlockFile(folder / DATA, folder / PROGRESS, lines, sealed_bytes)
        if contents is not None:
            write_stamps(folder, contents.stamps)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        """Leave nothing behind that is not sealed: a full disk gets its room back."""
        del reason
        try:
            self._file.drop_open()
        finally:
            self._file.close()

    def append(self, content: Bytes, size: tuple[int, int]) -> None:
        """Add an image, its bytes and its height and width.

        Raises:
            OSError: the disk is full or fails.
        """
        self._file.append(content.data)
        self._note(len(content), size)

    def append_bad(self, name: str, message: str) -> None:
        """Take note of an image that is not there."""
        self._open.bad_images[name] = message
        self._note(0, (0, 0))

    def seal(self) -> None:
        """Bring what was appended to the disk, then the block's line.

        Raises:
            OSError: the disk is full or fails.
        """
        if self._open.lengths:
            block = replace(self._open, sha256=self._file.sha256(), digests=self._digests())
            self._file.seal(block.line())
            self.blocks.append(block)
            self._open = Packed()

    def _digests(self) -> list[str]:
        """Of the files of the images that are not sealed yet."""
        if self._contents is None:
            return []
        start = sum(len(block.lengths) for block in self.blocks)
        digests = self._contents.digests(slice(start, start + len(self._open.lengths)))
        return [bytes(row).hex() for row in digests.numpy()]

    def _note(self, length: int, size: tuple[int, int]) -> None:
        self._open.lengths.append(length)
        self._open.sizes.append(size)
        if self._file.is_old or self._open.num_bytes >= BLOCK_BYTES:
            self.seal()


def sound_blocks(
    folder: Path,
    header: dict[str, Any],
    split: ImageSplit,
    *,
    on_bad_image: Literal["error", "skip"],
) -> list[Packed]:
    """The blocks of an interrupted packer that can be gone on from, every byte of them checked.

    So are the files of their images: what follows the first that changed is packed again.
    """
    try:
        lines = (folder / PROGRESS).read_bytes().splitlines(keepends=True)
        if lines[:1] != [to_line(header)]:
            return []
        blocks: list[Packed] = []
        for line in lines[1:]:
            block = Packed.from_line(line)
            if block is None or (block.bad_images and on_bad_image == "error"):
                break
            blocks.append(block)
        seals = [Seal(block.num_bytes, block.sha256) for block in blocks]
        del blocks[count_sound(folder / DATA, seals) :]
    except FileNotFoundError:
        return []
    return _unchanged(folder, blocks, split)


def _unchanged(folder: Path, blocks: list[Packed], split: ImageSplit) -> list[Packed]:
    """The blocks at the beginning whose images are still the same, as far as that is known."""
    if split.contents is None:
        return blocks
    blocks = list(takewhile(lambda block: len(block.digests) == len(block.lengths), blocks))
    joined = bytearray(bytes.fromhex("".join(each for block in blocks for each in block.digests)))
    if not joined:
        return []
    digests = torch.frombuffer(joined, dtype=torch.uint8).view(-1, DIGEST_BYTES)
    begun = split.contents.select(torch.arange(len(digests)))
    changed = changed_images(folder, digests, begun)
    first = int(changed[0]) if len(changed) else len(digests)
    ends = accumulate(len(block.lengths) for block in blocks)
    return [block for block, end in zip(blocks, ends, strict=True) if end <= first]

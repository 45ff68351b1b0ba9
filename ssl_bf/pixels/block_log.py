"""Images on their way into a store: appended to one file, in blocks that are sealed by checksums.

`progress.jsonl` has a first line that says what is packed, and a line per block. Whatever was
lost, torn or flipped ends the sound part there, and packing goes on after it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch

from linear_eval.datasets.contents import DIGEST_BYTES, Contents
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.features.stored_blocks import to_line
from linear_eval.features.stored_contents import changed_images, write_stamps
from linear_eval.system.atomic_file import atomic_file
from ssl_bf.pixels.packed_store import DATA

PROGRESS = "progress.jsonl"
BLOCK_BYTES = 2**26  # a block is sealed when it has as many,
BLOCK_SECONDS = 10.0  # or is as old: what a killed packer may lose

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
        self._log = folder / PROGRESS
        self._open = Packed()
        self._digest = hashlib.sha256()
        self._sealed_at = time.monotonic()
        with atomic_file(self._log) as file:
            file.writelines([to_line(header), *(block.line() for block in blocks)])
        self._data = (folder / DATA).open("ab", buffering=0)
        self._data.truncate(sum(block.num_bytes for block in blocks))
        if contents is not None:
            write_stamps(folder, contents.stamps)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        """Leave nothing behind that is not sealed: a full disk gets its room back."""
        del reason
        try:
            self._data.truncate(sum(block.num_bytes for block in self.blocks))
        finally:
            self._data.close()

    def append(self, content: Bytes, size: tuple[int, int]) -> None:
        """Add an image, its bytes and its height and width.

        Raises:
            OSError: the disk is full or fails.
        """
        _write_all(self._data, content.data)
        self._digest.update(content.data)
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
            block = replace(self._open, sha256=self._digest.hexdigest(), digests=self._digests())
            os.fsync(self._data.fileno())
            with self._log.open("ab", buffering=0) as file:
                _write_all(file, memoryview(block.line()))
                os.fsync(file.fileno())
            self.blocks.append(block)
            self._open, self._digest = Packed(), hashlib.sha256()
        self._sealed_at = time.monotonic()

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
        is_old = time.monotonic() - self._sealed_at >= BLOCK_SECONDS
        if is_old or self._open.num_bytes >= BLOCK_BYTES:
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
        data = (folder / DATA).open("rb")
    except FileNotFoundError:
        return []
    blocks: list[Packed] = []
    with data:
        if lines[:1] != [to_line(header)]:
            return []
        for line in lines[1:]:
            block = Packed.from_line(line)
            if block is None or (block.bad_images and on_bad_image == "error"):
                break
            content = data.read(block.num_bytes)
            digest = hashlib.sha256(content).hexdigest()
            if len(content) != block.num_bytes or digest != block.sha256:
                break
            blocks.append(block)
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


def _write_all(file: io.FileIO, content: memoryview) -> None:
    while content:
        content = content[file.write(content) :]

"""Rows of features on their way to the disk; `stored_blocks.py` says what lies there.

Shapes: N images of a batch, D feature width.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from linear_eval.datasets.contents import DIGEST_BYTES, Contents
from linear_eval.features.stored_blocks import DATA, DIGESTS, MANIFEST, Block, last_line
from linear_eval.features.stored_contents import write_stamps
from linear_eval.system.errors import InputError
from linear_eval.system.sealed_blocks import BlockFile, append_line, to_line, write_all

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_BYTES = 2**24  # a block is sealed when it has as many


class RowWriter:
    """Appends rows to a folder behind the blocks it already holds.

    Leaving the `with` block seals what was appended, whatever the reason for leaving; unless the
    disk failed, then the rows behind the last seal are dropped.
    """

    def __init__(
        self,
        folder: Path,
        header: dict[str, Any],
        blocks: list[Block],
        dtype: str,
        contents: Contents | None = None,
    ) -> None:
        """Drop whatever the folder holds behind `blocks`; keep digests if there are `contents`."""
        self._folder = folder
        self._contents = contents
        self._dtype = dtype
        self._blocks = list(blocks)
        self._open = _fresh(blocks[-1] if blocks else None)
        self._failed = False
        lines = [to_line(header), *(block.line() for block in blocks)]
        sealed_bytes = sum(block.num_bytes(dtype) for block in blocks)
        with disk_errors(folder):
            self._file = BlockFile(folder / DATA, folder / MANIFEST, lines, sealed_bytes)
            if contents is not None:
                write_stamps(folder, contents.stamps)

    def __enter__(self) -> Self:
        """Nothing to be done."""
        return self

    def __exit__(self, *reason: object) -> None:
        """Seal what was appended and close the file."""
        del reason
        try:
            if self._failed:
                self._file.drop_open()
            else:
                self.seal()
        finally:
            self._file.close()

    def append(
        self, rows: Tensor, index: list[int], *, end: int, image_size: tuple[int, int]
    ) -> None:
        """Add the rows of one batch.

        Args:
            rows: (N, D).
            index: N positions in the split, rising.
            end: position behind the batch; what is left out before it could not be read.
            image_size: height and width of the images of the batch.

        Raises:
            InputError: the disk is full or fails, or the images differ in size from earlier ones.
        """
        block = self._open
        kind = (rows.shape[1], *image_size)
        if block.width and block.kind != kind:
            raise InputError(
                f"images: {image_size[1]} x {image_size[0]} pixels, but {block.image_width} x "
                f"{block.image_height} where the extraction was interrupted, expected one size; "
                "set images.resize and images.crop"
            )
        content = rows.numpy().astype(self._dtype, copy=False).tobytes()
        with self._disk_errors():
            self._file.append(content)
        skipped = sorted(set(range(block.end, end)) - set(index))
        self._open = Block(block.rows + len(index), *kind, end, (*block.skipped, *skipped))
        if self._file.is_old or self._open.num_bytes(self._dtype) >= BLOCK_BYTES:
            self.seal()

    @property
    def has_rows(self) -> bool:
        """Whether the folder has a row, old or new."""
        return self._open.rows > 0 or any(block.rows for block in self._blocks)

    def seal(self) -> None:
        """Bring what was appended to the disk, then the block's line."""
        if self._open.end > (self._blocks[-1].end if self._blocks else 0):
            block = self._with_digests(self._open)
            block = replace(block, sha256=self._file.sha256(block.line()))
            with self._disk_errors():
                self._file.seal(block.line())
            self._blocks.append(block)
            self._open = _fresh(block)

    def finish(self, end: int) -> None:
        """Seal the last block and declare the rows complete.

        Args:
            end: length of the split.
        """
        skipped = (*self._open.skipped, *range(self._open.end, end))
        self._open = replace(self._open, end=end, skipped=skipped)
        self.seal()
        with self._disk_errors():
            manifest = self._folder / MANIFEST
            append_line(manifest, last_line(manifest.read_bytes()))

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            with disk_errors(self._folder):
                yield
        except InputError:
            self._failed = True
            raise

    def _with_digests(self, block: Block) -> Block:
        """Bring the digests of a block's images to the disk."""
        if self._contents is None:
            return block
        start = self._blocks[-1].end if self._blocks else 0
        content = self._contents.digests(slice(start, block.end)).numpy().tobytes()
        with self._disk_errors(), (self._folder / DIGESTS).open("ab", buffering=0) as file:
            file.truncate(start * DIGEST_BYTES)
            write_all(file, content)
            os.fsync(file.fileno())
        return replace(block, digests_sha256=hashlib.sha256(content).hexdigest())


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Turn a failure to write below `place` into an error of one line."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{place}: features cannot be stored ({error.strerror or error}); make room or set "
            "features.folder to another folder, or to none; the same command goes on where it "
            "stopped"
        ) from error


def _fresh(previous: Block | None) -> Block:
    if previous is None:
        return Block(0, 0, 0, 0, 0, ())
    return replace(previous, rows=0, skipped=(), sha256="", digests_sha256="")

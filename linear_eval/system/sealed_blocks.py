"""A file that is appended to in blocks, and a log that says which of them have reached the disk.

The first line of the log says whose blocks these are; then each block has a line with its checksum
and what the caller adds. The first block that is missing, cut or changed ends the part that is
used: a writer that was killed goes on after the last block before it.

Checking reads every byte. SHA-256 runs at 1 to 2 GB/s on a core and blocks are checked on several,
which is no slower than a disk delivers what is to be read anyway.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from linear_eval.system.atomic_file import atomic_file
from linear_eval.system.cores import reading_threads

BLOCK_SECONDS = 10.0  # a block is sealed when it is so old: what a killed writer may lose


@dataclass(frozen=True)
class Seal:
    """What a block's bytes are compared with.

    Attributes:
        num_bytes: how many.
        sha256: of the bytes and of `line`, in hex.
        line: what the log says of the block, where the checksum covers it.
    """

    num_bytes: int
    sha256: str
    line: bytes = b""


class BlockFile:
    """Appends to a file and its log; an error of the disk is an OSError."""

    def __init__(self, data: Path, log: Path, lines: Sequence[bytes], sealed_bytes: int) -> None:
        """Go on behind what is sound; whatever else the two files hold is dropped.

        Args:
            data: the file of blocks.
            log: its log.
            lines: of the log: the first one, and those of the sound blocks.
            sealed_bytes: of the sound blocks.
        """
        self._log = log
        self._sealed_bytes = sealed_bytes
        self._begin_block()
        content = b"".join(lines)
        if not log.exists() or log.read_bytes() != content:
            with atomic_file(log) as file:  # never torn: what it says is what can be gone on from
                file.write(content)
        self._data = data.open("ab", buffering=0)
        self.drop_open()

    def append(self, content: bytes | memoryview) -> None:
        """Add bytes to the open block."""
        write_all(self._data, content)
        self._digest.update(content)
        self._open_bytes += len(content)

    def sha256(self, line: bytes = b"") -> str:
        """Of the open block's bytes, and of `line`; in hex."""
        digest = self._digest.copy()  # an interruption may have this asked twice
        digest.update(line)
        return digest.hexdigest()

    @property
    def is_old(self) -> bool:
        """Whether the open block is to be sealed for its age."""
        return time.monotonic() - self._sealed_at >= BLOCK_SECONDS

    def seal(self, line: bytes) -> None:
        """Bring the open block to the disk, then its line; another one begins."""
        os.fsync(self._data.fileno())
        append_line(self._log, line)
        self._sealed_bytes += self._open_bytes
        self._begin_block()

    def drop_open(self) -> None:
        """Give back the room of what is not sealed."""
        self._data.truncate(self._sealed_bytes)

    def close(self) -> None:
        """Close the file as it is."""
        self._data.close()

    def _begin_block(self) -> None:
        self._digest, self._open_bytes = hashlib.sha256(), 0
        self._sealed_at = time.monotonic()


def are_sound(content: memoryview, seals: Sequence[Seal]) -> list[bool]:
    """Which of the blocks that lie one behind another in `content` are as they were sealed."""
    ends = list(accumulate(seal.num_bytes for seal in seals))

    def is_sound(number: int) -> bool:
        seal, end = seals[number], ends[number]
        if end > len(content):
            return False
        digest = hashlib.sha256(content[end - seal.num_bytes : end])
        digest.update(seal.line)
        return digest.hexdigest() == seal.sha256

    with ThreadPoolExecutor(reading_threads()) as pool:
        return list(pool.map(is_sound, range(len(seals))))


def count_sound(data: Path, seals: Sequence[Seal]) -> int:
    """How many blocks at the beginning of a file are as they were sealed.

    Raises:
        OSError: it is missing or cannot be read.
    """
    size = data.stat().st_size
    content = np.memmap(data, np.uint8, mode="r").data if size else memoryview(b"")
    return [*are_sound(content, seals), False].index(False)


def to_line(record: dict[str, Any]) -> bytes:
    """A record as a line of a log."""
    return json.dumps(record, sort_keys=True).encode() + b"\n"


def write_all(file: io.FileIO, content: bytes | memoryview) -> None:
    """Write to an unbuffered file, which may take less than it is given."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def append_line(log: Path, line: bytes) -> None:
    """Add a line that has reached the disk when this returns."""
    with log.open("ab", buffering=0) as file:
        write_all(file, line)
        os.fsync(file.fileno())

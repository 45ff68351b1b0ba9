"""One table of features on the disk: read when it is sound, otherwise extracted.

A table is made in a folder beside its place, `.NAME.partial`, by the one process that holds the
lock in it, and appears by a rename. What an interrupted extraction left there is gone on from.

Shapes: M images of a split, D feature width.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from linear_eval.datasets.dataset import ImageSplit, fingerprint_of
from linear_eval.features.stored_blocks import (
    DATA,
    MANIFEST,
    Block,
    DamagedError,
    read_blocks,
    read_digests,
)
from linear_eval.features.stored_contents import changed_images, others_now
from linear_eval.features.stored_writer import RowWriter, disk_errors
from linear_eval.features.table import (
    Embed,
    FeatureDtype,
    FeatureTable,
    checked_rows,
    nothing_readable,
)
from linear_eval.images.batches import ImageBatches
from linear_eval.system import screen
from linear_eval.system.atomic_folder import put_in_place
from linear_eval.system.errors import InputError
from linear_eval.system.folder_lock import take_lock
from linear_eval.system.printable import one_line


@dataclass(frozen=True, eq=False)
class FeatureFolder:
    """The place of one table.

    Attributes:
        place: where the finished table lies.
        header: the first line of its manifest.
        dtype: of the features.
    """

    place: Path
    header: dict[str, Any]
    dtype: FeatureDtype

    @classmethod
    def of(
        cls, store: Path, name: str, key: dict[str, Any], batches: ImageBatches
    ) -> FeatureFolder:
        """The folder `name` for the features that `key` describes."""
        split = batches.split
        header = {
            "key": key,
            "images": len(split),
            "ids_and_labels": fingerprint_of("rows", split.ids, split.labels, b""),
        }
        return cls(place=store / name, header=header, dtype=key["dtype"])

    def read(self, batches: ImageBatches, *, announce: bool = True) -> FeatureTable | None:
        """The table, mapped into memory; None if there is none, or (announced) it is not sound."""
        try:
            if not self.place.exists():
                return None
            blocks, is_complete = read_blocks(self.place, self.header, self.dtype)
            if not (is_complete and blocks and blocks[-1].end == len(batches.split)):
                end = blocks[-1].end if blocks else 0
                raise DamagedError(f"only the first {end} of {len(batches.split)} images are sound")
            skipped = [row for block in blocks for row in block.skipped]
            if skipped and batches.on_bad_image == "error":
                raise DamagedError(
                    f"it lacks {len(skipped)} images that could not be read, which "
                    "data.on_bad_image=error does not permit"
                )
            return self._mapped(batches.split, blocks, skipped, self._is_checked(blocks, batches))
        except (DamagedError, OSError) as error:
            if announce:
                say(f"{self.place}: computed again, because {error}")
            return None

    def extract(self, embed: Embed, batches: ImageBatches, label: str) -> FeatureTable:
        """Make the table, unless another process does so meanwhile.

        Raises:
            InputError: see `collect_features`; or the disk is full, or cannot be written to. What
                was extracted until then is gone on from the next time.
        """
        partial = self.place.with_name(f".{self.place.name}.partial")
        is_new = not self.place.parent.exists()
        with disk_errors(self.place):
            lock = take_lock(
                partial, lambda: say(f"{self.place}: waiting for another process to compute it")
            )
        with lock:
            found = self.read(batches, announce=False)  # it may have come while we waited
            if found is None:
                try:
                    self._fill(partial, embed, batches, label)
                except BaseException:
                    _drop_if_empty(partial, with_parent=is_new)
                    raise
                with disk_errors(self.place):
                    put_in_place(partial, self.place)
            else:
                shutil.rmtree(partial, ignore_errors=True)
        if found is not None:
            return found
        table = self.read(batches)
        if table is None:
            raise InputError(
                f"{self.place}: does not read back as it was written; mend the disk or set "
                "features.folder to another one"
            )
        return replace(table, read_from=None)

    def _is_checked(self, blocks: list[Block], batches: ImageBatches) -> bool:
        """Whether the images are known to be those of the table; not so of earlier versions.

        Raises:
            DamagedError: they are others.
        """
        contents = batches.split.contents
        if contents is None:
            return True
        digests = read_digests(self.place, blocks)
        if digests is None:
            return False
        changed = changed_images(self.place, digests, contents)
        if len(changed):
            raise DamagedError(others_now(changed, batches.split.ids))
        return True

    def _mapped(
        self, split: ImageSplit, blocks: list[Block], skipped: list[int], is_checked: bool
    ) -> FeatureTable:
        shape = (sum(block.rows for block in blocks), blocks[0].width)
        # copy on write: torch wants writable memory, and the file must stay as it is
        rows = np.memmap(self.place / DATA, self.dtype, mode="c", shape=shape)
        features, source = torch.from_numpy(rows), self.place.parent
        if not skipped:
            return FeatureTable(features, split.labels, split.ids, source, is_checked=is_checked)
        kept = torch.ones(len(split), dtype=torch.bool)
        kept[skipped] = False
        index = kept.nonzero()[:, 0]
        ids = tuple(split.ids[i] for i in index.tolist())
        return FeatureTable(features, split.labels[index], ids, source, is_checked=is_checked)

    def _fill(self, partial: Path, embed: Embed, batches: ImageBatches, label: str) -> None:
        blocks, split, at_once = (
            self._resumable(partial, batches),
            batches.split,
            batches.batch_size,
        )
        start = blocks[-1].end if blocks else 0
        with RowWriter(partial, self.header, blocks, self.dtype, split.contents) as writer:
            found = batches.embedded(embed, start)
            begun, total = start // at_once, len(batches)
            with screen.progress_bar(found, label, total, unit="batch", initial=begun) as progress:
                for index, features, image_size in progress:
                    first = int(index[0]) - (int(index[0]) - start) % at_once
                    writer.append(
                        checked_rows(features, index, split, self.dtype),
                        index.tolist(),
                        end=min(first + at_once, len(split)),
                        image_size=image_size,
                    )
            if not writer.has_rows:
                raise nothing_readable(split)
            writer.finish(len(split))

    def _resumable(self, partial: Path, batches: ImageBatches) -> list[Block]:
        """The sound blocks at the beginning of what an interrupted extraction left."""
        if not (partial / MANIFEST).exists():
            return []
        try:
            blocks, _ = read_blocks(partial, self.header, self.dtype)
            blocks = _unchanged(partial, blocks, batches.split)
        except DamagedError as error:
            say(f"{partial}: begun again, because {error}")
            return []
        if batches.on_bad_image == "error":
            blocks = list(takewhile(lambda block: not block.skipped, blocks))
        if blocks:
            say(f"{self.place}: going on behind image {blocks[-1].end} of {len(batches.split)}")
        return blocks


def say(text: str) -> None:
    """Tell the user at once, whatever becomes of the command."""
    screen.say(f"features: {one_line(text)}")


def _unchanged(partial: Path, blocks: list[Block], split: ImageSplit) -> list[Block]:
    """The blocks at the beginning whose images are still the same.

    Raises:
        DamagedError: it cannot be told, or nothing is left.
    """
    if split.contents is None or not blocks:
        return blocks
    digests = read_digests(partial, blocks)
    if digests is None:
        raise DamagedError("an earlier version did not keep what its images were")
    begun = split.contents.select(torch.arange(len(digests)))
    changed = changed_images(partial, digests, begun)
    if not len(changed):
        return blocks
    kept = [block for block in blocks if block.end <= int(changed[0])]
    if not kept:
        raise DamagedError(others_now(changed, split.ids))
    return kept


def _drop_if_empty(partial: Path, *, with_parent: bool) -> None:
    """Leave nothing behind where an extraction failed before it had anything to keep."""
    manifest = partial / MANIFEST
    if manifest.exists() and len(manifest.read_bytes().splitlines()) > 1:
        return
    shutil.rmtree(partial, ignore_errors=True)
    if with_parent:
        with suppress(OSError):
            partial.parent.rmdir()

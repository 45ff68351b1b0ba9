"""Features on disk: extracted once, then read by every evaluation that asks for the same ones.

Each table lies in a folder named by the digest of its key: the weights, the images, and how they
were seen. Only a table that is undamaged and has the same key is used. The folders may be deleted
at any time.

Shapes: M images of a split, D feature width.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from linear_eval.features.shared_batches import together
from linear_eval.features.stored_folder import FeatureFolder, say
from linear_eval.features.table import Embed, FeatureDtype, FeatureTable, collect_features
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.images.train_views import TrainView
from linear_eval.system.atomic_file import check_outside
from linear_eval.system.errors import InputError

FORMAT_VERSION = 1  # part of the key: change it with any change of a stored feature
AUTO, NONE = "auto", "none"


@dataclass(frozen=True, kw_only=True)
class FeatureStoreConfig:
    """Where features are kept, and how exactly.

    Attributes:
        folder: `auto`: the folder `features` beside each backbone file, and nothing of `pixels` and
            `random`; `none`: nothing is kept; otherwise a folder for the features of all.
        dtype: float16 takes half the room and rounds to 11 bits.
    """

    folder: str = AUTO
    dtype: FeatureDtype = "float32"

    def __post_init__(self) -> None:
        """Refuse an empty name; the disk is looked at later."""
        if not self.folder:
            raise ValueError("folder: is empty, expected auto, none or a folder")

    def open(self, backbone: Path | None) -> FeatureStore:
        """The store for the features of a backbone file, or of a baseline (None).

        Raises:
            InputError: the folder that was asked for cannot be made or written to.
        """
        if self.folder == NONE or (self.folder == AUTO and backbone is None):
            return FeatureStore(folder=None, dtype=self.dtype)
        if self.folder == AUTO:
            assert backbone is not None
            folder = backbone.parent / "features"
            return FeatureStore(folder=folder, dtype=self.dtype, is_optional=True)
        folder = Path(self.folder).expanduser()
        if not _can_be_written(folder):
            raise InputError(
                f"features.folder: {folder}: cannot be written to, expected a folder that is there "
                "or can be made; set features.folder to another one, or to none"
            )
        return FeatureStore(folder=folder, dtype=self.dtype)

    def check_outside(self, images: Path | None) -> None:
        """Refuse a folder that was asked for among images, see `atomic_file.check_outside`."""
        if self.folder not in (AUTO, NONE):
            check_outside(Path(self.folder).expanduser(), images, "features.folder")


@dataclass(frozen=True, kw_only=True)
class StoreKey:
    """Whose features these are. Speed settings (batch size, device) change them by rounding only.

    Attributes:
        weights: what identifies the backbone, such as the SHA-256 of its file.
        transform: how an image reaches it.
        data: fingerprint of the split, with how its files are read.
        dtype: of the stored values.
        layer: of the backbone.
    """

    weights: str
    transform: EvalImages | TrainView
    data: str
    dtype: FeatureDtype
    layer: str = "features"

    def describe(self) -> dict[str, Any]:
        """JSON: every ingredient by name."""
        transform = {"name": type(self.transform).__name__, **asdict(self.transform)}
        return {**asdict(self), "transform": transform, "format_version": FORMAT_VERSION}

    def digest(self) -> str:
        """32 hex digits that differ for different keys."""
        text = json.dumps(self.describe(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def file_weights(sha256: str) -> str:
    """What identifies the weights of a backbone file with this digest."""
    return f"file, sha256 {sha256}"


@dataclass(frozen=True, kw_only=True)
class FeatureStore:
    """Features in a folder, or in memory where there is none.

    Attributes:
        folder: None keeps nothing.
        dtype: of the tables.
        is_optional: a folder that cannot be written to is announced and done without.
    """

    folder: Path | None
    dtype: FeatureDtype = "float32"
    is_optional: bool = False

    def table(
        self, weights: str, embed: Embed, batches: ImageBatches, label: str = ""
    ) -> FeatureTable:
        """Features of a split: read if they are stored, otherwise extracted and stored.

        An extraction that was interrupted goes on where it stopped; its result is the same, bit for
        bit. A second process that wants the same features waits for the first. Values are those
        that `collect_features` gives.

        Args:
            weights: what identifies `embed`, whatever else changes its features included.
            embed: called for images without a stored row only.
            batches: looked at where `embed` is called only.
            label: of the progress bar.

        Raises:
            InputError: see `collect_features`; or the disk is full, or cannot be written to.
        """
        return self._table(weights, embed, batches, batches.images, label)

    def view_tables(
        self,
        weights: str,
        embed: Embed,
        batches: ImageBatches,
        *,
        size: int,
        passes: int,
        seed: int = 0,
        label: str = "",
    ) -> tuple[FeatureTable, ...]:
        """Features of augmented views, one table for each pass over the split; see `TrainView`.

        Each pass is stored by itself: more passes later cost only those.

        Args:
            weights: as for `table`.
            embed: likewise.
            batches: the split, batch size and what to do with bad images; the evaluation transform
                is not applied.
            size: side of the views in pixels.
            passes: >= 1.
            seed: of the views.
            label: of the progress bar.

        Returns:
            `passes` tables (M, D) with the same ids and labels, mapped into memory; without a
            folder they all lie in memory.

        Raises:
            InputError: as for `table`; or an image could be read in one pass but not in another.
        """
        tables: list[FeatureTable] = []
        for epoch in range(passes):
            view = TrainView(size=size, seed=seed, epoch=epoch)
            part = batches.showing(view.of(batches.split), EvalImages())
            title = f"{label}: pass {epoch + 1} of {passes}"
            table = self._table(weights, embed, part, view, title)
            first = tables[0] if tables else table
            if table.ids != first.ids:
                raise InputError(
                    f"data: pass {epoch + 1} could read {len(table.ids)} images and the first pass "
                    f"{len(first.ids)}, expected the same ones; look at the disk they lie on"
                )
            tables.append(replace(table, ids=first.ids, labels=first.labels))  # held once
        return tuple(tables)

    def remarks(self) -> list[str]:
        """A line that says where features are kept and how much there is, if anything is kept."""
        if self.folder is None or not self.folder.is_dir():
            return []
        size = sum(map(_size_of, self.folder.rglob("*"))) / 2**20
        return [f"features: kept in {self.folder} ({size:.1f} MiB in all); delete it at any time"]

    def _table(
        self,
        weights: str,
        embed: Embed,
        batches: ImageBatches,
        transform: EvalImages | TrainView,
        label: str,
    ) -> FeatureTable:
        key = StoreKey(
            weights=weights,
            transform=transform,
            data=batches.split.pixel_fingerprint,
            dtype=self.dtype,
        )
        if self.folder is None:
            table = together(
                batches, embed, lambda part: collect_features(embed, part, label, self.dtype)
            )
        else:
            place = FeatureFolder.of(self.folder, key.digest(), key.describe(), batches)
            table = together(
                batches,
                embed,
                lambda part: self._kept(place, embed, part, label),
                lambda: place.read(batches),
            )
        batches.check_skipped(table.ids)
        return table

    def _kept(
        self, place: FeatureFolder, embed: Embed, batches: ImageBatches, label: str
    ) -> FeatureTable:
        """The table of a folder: read, or extracted and stored."""
        assert self.folder is not None
        found = place.read(batches)
        if found is not None:
            return found
        if self.is_optional and not _can_be_written(self.folder):
            say(f"{self.folder}: cannot be written to, nothing is kept; set features.folder")
            return collect_features(embed, batches, label, self.dtype)
        return place.extract(embed, batches, label)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:  # another process may be at work there
        return 0


def _can_be_written(folder: Path) -> bool:
    """Whether the folder, or the first one above it that is there, takes new files."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)

"""Where the training pixels are kept: on the GPU, in memory, in a packed store, or in their files.

The pixels, and so the result, are the same everywhere.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decode import BadImageError
from linear_eval.system.errors import InputError
from ssl_bf.pixels.fill import NoRoomError, fill, load
from ssl_bf.pixels.pack import pack
from ssl_bf.pixels.packed_images import num_bytes
from ssl_bf.pixels.packed_store import NOT_CHECKED, PackedStore, header_of, open_store
from ssl_bf.pixels.preparation import Preparation
from ssl_bf.pixels.source import Source
from ssl_bf.pixels.store import DecodedImages, HeldImages, ImageStore, decode_in_order, sample_rows

MIB = 2**20
DEVICE_SHARE = 0.5  # of the GPU's free memory; the rest is for training

Place = Literal["auto", "device", "memory", "disk", "files"]


@dataclass(frozen=True, kw_only=True)
class Residency:
    """What is asked for.

    Attributes:
        images: where the pixels shall be; auto takes the first that fits of device, memory, disk
            (if there is a store) and files.
        store: folder of the packed store; packed where it is missing.
        memory_mib: decoded images take at most so much memory.
    """

    images: Place
    store: Path | None
    memory_mib: int


def open_images(
    split: ImageSplit,
    source: Source,
    preparation: Preparation,
    *,
    residency: Residency,
    device: torch.device,
    on_bad_image: Literal["error", "skip"],
) -> ImageStore:
    """The training pixels of a split of `source`, kept as asked for, or one level further down.

    Raises:
        InputError: the store cannot be used or made, or `device` is asked for and is a CPU.
        BadImageError: an image cannot be decoded and `on_bad_image` is error.
    """
    is_cuda = device.type == "cuda"
    if residency.images == "device" and not is_cuda:
        raise InputError(
            "speed.images: device needs a GPU, this run has a CPU; set speed.images=memory or auto"
        )
    store = _find_store(source, preparation, residency, on_bad_image)
    opened = _Opening(split, preparation, store, device, on_bad_image, asked=residency.images)
    levels: dict[Place, list[Place]] = {
        "auto": ["device", "memory", "disk", "files"],
        "device": ["device", "memory", "disk", "files"],
        "memory": ["memory", "disk", "files"],
        "disk": ["disk"],
        "files": ["files"],
    }
    for level in levels[residency.images]:
        try:
            if level == "device" and is_cuda:
                return opened.held(device, int(DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]))
            if level == "memory":
                return opened.held(torch.device("cpu"), residency.memory_mib * MIB)
        except NoRoomError as error:
            opened.reasons.append(str(error))
        if level == "disk" and store is not None:
            return opened.on_disk(store)
    return opened.in_files()


class _Opening:
    """One attempt after the other; `reasons` tells why earlier ones failed."""

    def __init__(
        self,
        split: ImageSplit,
        preparation: Preparation,
        store: PackedStore | None,
        device: torch.device,
        on_bad_image: Literal["error", "skip"],
        asked: Place,
    ) -> None:
        self.reasons: list[str] = []
        self._asked = asked
        self._split = split
        self._preparation = preparation
        self._store = store
        self._on_bad_image = on_bad_image
        self._pinned = device.type == "cuda"
        self._rows = torch.arange(len(split)) if store is None else store.rows(split)
        self._bad = {} if store is None else self._bad_of(store)

    def held(self, where: torch.device, budget: int) -> ImageStore:
        """All images, in memory.

        Raises:
            NoRoomError: it does not fit.
            InputError: the store is damaged.
        """
        name = "GPU memory" if where.type == "cuda" else "memory"
        bad: Mapping[int, str] = self._bad
        if self._store is not None and not self._store.holds_jpegs:
            images = load(self._store.packed(self._rows), where, budget, name)
        else:
            images, bad = fill(
                self._read,
                len(self._split),
                where=where,
                budget=budget,
                name=name,
                expected=self._expected_bytes(),
                on_bad_image=self._on_bad_image,
            )
        if self._store is not None:
            self._store.check()  # all of it was read anyway
        pinned = self._pinned and where.type == "cpu"
        size = f"{len(images.data) // MIB + 1} MiB"
        note = self._note(f"in {name}, {size}{_skipped(bad)}")
        return HeldImages(images, bad_images=bad, note=note, pinned=pinned)

    def on_disk(self, store: PackedStore) -> ImageStore:
        """Read, or decoded, from the store whenever a batch needs them."""
        if store.holds_jpegs:
            note = self._note(f"decoded at every use from the JPEGs in {store.place}")
            return self._decoded(note)
        note = self._note(f"in {store.place}{_skipped(self._bad)}")
        return HeldImages(
            store.packed(self._rows),
            bad_images=self._bad,
            note=note,
            is_mapped=True,
            pinned=self._pinned,
        )

    def in_files(self) -> ImageStore:
        """Decoded from their files whenever a batch needs them."""
        if self._split.contents is not None:
            self._split.contents.files.noting = False  # nobody asks, and each costs its share
        faster = "; speed.store=FOLDER would decode them once" if self.reasons else ""
        return self._decoded(self._note("decoded from their files at every use") + faster)

    def _decoded(self, note: str) -> ImageStore:
        return DecodedImages(
            self._read,
            len(self._split),
            on_bad_image=self._on_bad_image,
            note=note,
            pinned=self._pinned,
        )

    def _read(self, row: int) -> Tensor:
        """Training pixels of an image of the split, from the store of JPEGs where there is one."""
        if self._store is None or not self._store.holds_jpegs:
            return self._preparation.prepare(self._split.read(row))
        if row in self._bad:
            raise BadImageError(self._bad[row])
        return self._store.decode(int(self._rows[row]))

    def _expected_bytes(self) -> int:
        """What all images take: exactly from a store, from a sample of the files otherwise."""
        if self._store is not None:
            return int(num_bytes(self._store.sizes[self._rows]).sum())
        rows = sample_rows(len(self._split))
        sample = decode_in_order(self._read, rows, on_bad_image=self._on_bad_image)
        sizes = [image.numel() for image in sample if not isinstance(image, str)]
        return sum(sizes) * len(self._split) // max(len(sizes), 1)

    def _bad_of(self, store: PackedStore) -> dict[int, str]:
        ids = enumerate(self._split.ids)
        bad = {row: store.bad_images[name] for row, name in ids if name in store.bad_images}
        if bad and self._on_bad_image == "error":
            raise BadImageError(next(iter(bad.values())))
        return bad

    def _note(self, text: str) -> str:
        if self._store is not None and not self._store.is_checked:
            text += f" ({NOT_CHECKED})"
        if not self.reasons:
            return f"images: {text}"
        because = "; ".join(self.reasons)
        if self._asked == "auto":  # which takes the first place that fits
            return f"images: {text} ({because})"
        return f"warning: images: {text}, not as speed.images={self._asked} asks ({because})"


def default_place(source: Source, preparation: Preparation) -> Path:
    """Where `speed.images=disk` packs without `speed.store`: below the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    header = repr((header_of(source, preparation), source.split.fingerprint))
    return Path(cache) / "ssl-bf" / "images" / hashlib.sha256(header.encode()).hexdigest()[:16]


def _find_store(
    source: Source,
    preparation: Preparation,
    residency: Residency,
    on_bad_image: Literal["error", "skip"],
) -> PackedStore | None:
    if residency.images == "files":
        return None
    if residency.store is None and residency.images != "disk":
        return open_store(default_place(source, preparation), source, preparation)
    place = residency.store or default_place(source, preparation)
    return pack(place, source, preparation, on_bad_image=on_bad_image)


def _skipped(bad: Mapping[int, str]) -> str:
    return f", {len(bad)} bad ones skipped" if bad else ""

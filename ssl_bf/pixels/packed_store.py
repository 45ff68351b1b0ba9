"""A packed store: the training pixels of a data set in one folder, decoded once for all runs.

`images.bin` holds one image after the other: its bytes height x width x 3, or, if the preparation
says so, a JPEG. `index.safetensors` says where each begins, how large it is, and which id it has.
`manifest.json` comes last and says what the images are: of which source (its fingerprint), how
they were prepared, how many bytes, and checksums of the index, of every block of images, and of
itself.

A store is used for every split of its source, whatever was held out of it. When it is opened,
sizes and the index are checked; the blocks by `check`, which reads all of it.

Shapes: M images.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from torch import Tensor

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.image_files import few
from linear_eval.results.seal import seal_problem
from linear_eval.system.errors import InputError
from linear_eval.system.sealed_blocks import Seal, are_sound
from ssl_bf.pixels.packed_images import PackedImages
from ssl_bf.pixels.preparation import Preparation, decoded
from ssl_bf.pixels.source import Source
from ssl_bf.pixels.store_origin import ANEW, check_contents, check_origin, check_preparation

DATA, INDEX, MANIFEST = "images.bin", "index.safetensors", "manifest.json"
FORMAT = "ssl-bf packed images 1"
NOT_CHECKED = (
    "packed by an earlier version, which did not keep what the files held: whether they changed "
    "since is not known"
)


@dataclass(frozen=True, eq=False)
class PackedStore:
    """An opened store.

    Attributes:
        place: its folder.
        preparation: of its images.
        data: (B,) uint8, mapped from the file.
        starts: (M,) int64, first byte of each image.
        lengths: (M,) int64, bytes of each image; 0 for a bad one.
        sizes: (M, 2) int64, height and width of each image.
        row_of: row of each image id.
        bad_images: message of each image that could not be decoded, by id.
        blocks: bytes and SHA-256 of each block of `data`.
        is_checked: whether the files are known to be those that were packed; false for the stores
            of earlier versions, which kept no digests.
    """

    place: Path
    preparation: Preparation
    data: Tensor
    starts: Tensor
    lengths: Tensor
    sizes: Tensor
    row_of: dict[str, int]
    bad_images: dict[str, str]
    blocks: tuple[tuple[int, str], ...]
    is_checked: bool

    @property
    def holds_jpegs(self) -> bool:
        """Whether images are still to be decoded."""
        return self.preparation.jpeg_quality is not None

    def rows(self, split: ImageSplit) -> Tensor:
        """Where the images of a split of the source lie; (K,) int64.

        Raises:
            InputError: some are missing.
        """
        missing = [name for name in split.ids if name not in self.row_of]
        if missing:
            raise InputError(
                f"{self.place}: holds {len(self.row_of)} images and lacks {len(missing)} that are "
                f"trained on ({few(missing)}), as if packed with a smaller data.max_images; {ANEW}"
            )
        return torch.tensor([self.row_of[name] for name in split.ids], dtype=torch.int64)

    def packed(self, rows: Tensor) -> PackedImages:
        """Images that are no JPEGs; (K,) rows, nothing is read yet."""
        assert not self.holds_jpegs
        return PackedImages(self.data, self.starts[rows], self.sizes[rows])

    def decode(self, row: int) -> Tensor:
        """Decode an image stored as JPEG; (3, H, W) uint8."""
        start = int(self.starts[row])
        return decoded(self.data[start : start + int(self.lengths[row])])

    def check(self) -> None:
        """Read everything and compare it with its checksums.

        Raises:
            InputError: a block is damaged.
        """
        seals = [Seal(length, digest) for length, digest in self.blocks]
        sound = are_sound(self.data.numpy().data, seals)
        if not all(sound):
            raise InputError(
                f"{self.place}: {DATA} is damaged in {sound.count(False)} of {len(sound)} blocks, "
                f"expected the bytes that were packed; {ANEW}"
            )


_ENTRIES = {
    "source": str,
    "short_side": int | None,
    "jpeg_quality": int | None,
    "bytes": int,
    "index_sha256": str,
    "blocks": list,
    "bad_images": dict,
}  # of a manifest, besides its format


def open_store(place: Path, source: Source, preparation: Preparation) -> PackedStore | None:
    """Open the store of a source; None where there is nothing yet.

    Raises:
        InputError: something else is there, or a store of other images, of another preparation,
            or one that is damaged.
    """
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return None
    try:
        manifest = json.loads((place / MANIFEST).read_bytes())
        index = (place / INDEX).read_bytes()
        size = (place / DATA).stat().st_size
    except (OSError, ValueError) as error:
        raise InputError(
            f"{place}: is no packed store, or no whole one ({error}), expected one or nothing; "
            "pack into another folder"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{place}: is no store of the format '{FORMAT}'; pack into another folder")
    if not _is_whole(manifest):
        raise InputError(f"{place}: {MANIFEST} is damaged, expected it as it was packed; {ANEW}")
    check_preparation(place, manifest, preparation)
    if size != manifest["bytes"]:
        raise InputError(
            f"{place}: {DATA} has {size} bytes, expected {manifest['bytes']}, so it was cut off or "
            f"changed; {ANEW}"
        )
    if hashlib.sha256(index).hexdigest() != manifest["index_sha256"]:
        raise InputError(f"{place}: {INDEX} is damaged (its checksum differs); {ANEW}")
    tensors = load_tensors(index)
    ids = ids_from(tensors["ids"])
    row_of = {name: row for row, name in enumerate(ids)}
    check_origin(place, manifest, row_of, source)
    is_checked = check_contents(place, tensors.get("digests"), row_of, source.split)
    return PackedStore(
        place=place,
        preparation=preparation,
        # copy on write: torch wants writable memory, and the file must stay as it is
        data=torch.from_numpy(np.memmap(place / DATA, np.uint8, mode="c")),
        starts=tensors["starts"],
        lengths=tensors["lengths"],
        sizes=tensors["sizes"].long(),
        row_of=row_of,
        bad_images=manifest["bad_images"],
        blocks=tuple((length, digest) for length, digest in manifest["blocks"]),
        is_checked=is_checked,
    )


def _is_whole(manifest: dict[str, Any]) -> bool:
    """Whether it has all entries, and is what was written where it says (digest) what that was."""
    return (
        all(key in manifest and isinstance(manifest[key], kind) for key, kind in _ENTRIES.items())
        and all(
            isinstance(each, list) and list(map(type, each)) == [int, str]
            for each in manifest["blocks"]
        )
        and seal_problem(manifest) is None
    )


def header_of(source: Source, preparation: Preparation) -> dict[str, Any]:
    """What a manifest says about the origin of its images."""
    read = {"decoding": source.split.decoding} if source.split.decoding else {}
    return {"format": FORMAT, "source": source.fingerprint, **asdict(preparation), **read}


def ids_as_bytes(ids: Sequence[str]) -> Tensor:
    """Names as one tensor of bytes; none holds a zero byte, as no path does."""
    joined = "\0".join(ids).encode("utf-8", "surrogateescape")
    return torch.frombuffer(bytearray(joined), dtype=torch.uint8)


def ids_from(content: Tensor) -> list[str]:
    """The inverse of `ids_as_bytes`."""
    return content.numpy().tobytes().decode("utf-8", "surrogateescape").split("\0")

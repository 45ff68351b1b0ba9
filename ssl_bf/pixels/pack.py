"""Packing: every image of a source is decoded once and written to a store, see `packed_store.py`.

A store is made in a folder beside its place, `.NAME.partial`, and renamed when it is complete. A
lock lets one process at a time work there. `progress.jsonl` says which blocks of images have
reached the disk: after a crash, or on a full disk, the next call goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from linear_eval.datasets.bad_images import check_bad_images
from linear_eval.results.seal import sealed
from linear_eval.system.atomic_file import atomic_file, check_outside
from linear_eval.system.atomic_folder import put_in_place
from linear_eval.system.errors import InputError
from linear_eval.system.folder_lock import LOCK, take_lock
from ssl_bf.pixels.block_log import PROGRESS, BlockWriter, Packed, sound_blocks
from ssl_bf.pixels.pack_progress import say, with_progress
from ssl_bf.pixels.packed_images import image_bytes
from ssl_bf.pixels.packed_store import (
    DATA,
    INDEX,
    MANIFEST,
    PackedStore,
    header_of,
    ids_as_bytes,
    open_store,
)
from ssl_bf.pixels.preparation import Preparation
from ssl_bf.pixels.source import Source
from ssl_bf.pixels.store import decode_in_order, sample_rows

GIB = 2**30


def pack(
    place: Path,
    source: Source,
    preparation: Preparation,
    *,
    on_bad_image: Literal["error", "skip"] = "error",
    max_bad: float = 1.0,
) -> PackedStore:
    """The store of a source, packed unless it is there.

    Processes that ask for one store at a time wait for the first of them.

    Args:
        place: of the store.
        source: what is packed.
        preparation: how pixels are kept.
        on_bad_image: skip leaves out what cannot be decoded.
        max_bad: share of the images that may be left out.

    Raises:
        InputError: see `open_store`; or too many are bad, the place lies among the images, the
            disk is full or cannot be written to, or the source changed meanwhile. The next call
            goes on where this one stopped.
    """
    found = open_store(place, source, preparation)
    if found is not None:
        return found
    check_outside(place, source.split.folder, "store")
    partial = place.with_name(f".{place.name}.partial")
    waiting = f"{place}: waiting for the process that packs it; if it hangs, stop it"
    with _disk_errors(place):
        lock = take_lock(partial, lambda: say(waiting))
    with lock:
        found = open_store(place, source, preparation)  # it may have come while we waited
        if found is not None:
            shutil.rmtree(partial, ignore_errors=True)
            return found
        try:
            packed = _fill(partial, place, source, preparation, on_bad_image)
            bad = [text for block in packed for text in block.bad_images.values()]
            check_bad_images(bad, len(source.split), max_bad)
        except (InputError, KeyboardInterrupt):
            _drop_if_empty(partial)
            raise
        if source.has_changed():
            raise InputError(
                f"{place}: the images changed while they were packed, expected them to stay as "
                "they are; wait until they are complete and pack again"
            )
        with _disk_errors(place):
            _publish(partial, place, source, preparation, packed)
    store = open_store(place, source, preparation)
    assert store is not None
    return store


def _drop_if_empty(partial: Path) -> None:
    """Leave nothing behind where there is nothing to go on from."""
    data = partial / DATA
    if not data.exists() or data.stat().st_size == 0:
        shutil.rmtree(partial, ignore_errors=True)


def _fill(
    partial: Path,
    place: Path,
    source: Source,
    preparation: Preparation,
    on_bad_image: Literal["error", "skip"],
) -> list[Packed]:
    """Write what is not there yet; all blocks."""
    header = header_of(source, preparation) | {"ids": _digest(source)}
    split = source.split
    with _disk_errors(place):
        blocks = sound_blocks(partial, header, split, on_bad_image=on_bad_image)
        writer = BlockWriter(partial, header, blocks, split.contents)

    def read(row: int) -> tuple[Tensor, tuple[int, int]]:
        image = preparation.reduce(split.read(row))
        height, width = image.shape[1:]
        is_jpeg = preparation.jpeg_quality is not None
        return preparation.encode(image) if is_jpeg else image_bytes(image), (height, width)

    start = sum(len(block.sizes) for block in blocks)
    rows = range(start, len(split))
    with writer:
        _announce(place, read, rows, len(split), on_bad_image)
        images = decode_in_order(read, rows, on_bad_image=on_bad_image)
        with closing(with_progress(images, place, start, len(split))) as shown:
            for row, image in zip(rows, shown, strict=True):
                with _disk_errors(place):
                    if isinstance(image, str):
                        writer.append_bad(split.ids[row], image)
                    else:
                        writer.append(image[0].numpy(), image[1])
        with _disk_errors(place):
            writer.seal()
    if not any(block.num_bytes for block in writer.blocks):
        raise InputError(
            f"{place}: none of the {len(split)} images can be decoded; look at data.root"
        )
    return writer.blocks


def _announce(
    place: Path,
    read: Callable[[int], tuple[Tensor, tuple[int, int]]],
    rows: range,
    total: int,
    on_bad_image: Literal["error", "skip"],
) -> None:
    """Say what comes, or refuse what cannot fit."""
    sample = [rows[place] for place in sample_rows(len(rows))]
    read_now = decode_in_order(read, sample, on_bad_image=on_bad_image)
    lengths = [len(image[0]) for image in read_now if not isinstance(image, str)]
    needed = sum(lengths) * len(rows) / max(len(lengths), 1)
    with _disk_errors(place):
        free = shutil.disk_usage(place.parent).free
    going_on = f", going on behind image {rows.start}" if rows.start else ""
    text = f"{len(rows)} of {total} images, about {needed / GIB:.2f} GiB"
    if needed > 1.1 * free:  # estimated, so let it try where it nearly fits
        raise InputError(
            f"{place}: needs room for {text}, and {free / GIB:.2f} GiB are free; make room, choose "
            "another folder, or set views.short_side or views.jpeg_quality"
        )
    say(f"{place}: packing {text}{going_on}")


def _publish(
    partial: Path, place: Path, source: Source, preparation: Preparation, blocks: list[Packed]
) -> None:
    lengths = torch.tensor([length for block in blocks for length in block.lengths])
    contents = source.split.contents
    index = save_tensors(
        ({} if contents is None else {"digests": contents.digests()})
        | {
            "starts": lengths.cumsum(0) - lengths,
            "lengths": lengths,
            "sizes": torch.tensor(
                [size for block in blocks for size in block.sizes], dtype=torch.int32
            ),
            "ids": ids_as_bytes(source.split.ids),
        }
    )
    manifest: dict[str, Any] = header_of(source, preparation) | {
        "images": len(lengths),
        "bytes": int(lengths.sum()),
        "index_sha256": hashlib.sha256(index).hexdigest(),
        "blocks": [[block.num_bytes, block.sha256] for block in blocks],
        "bad_images": {name: text for block in blocks for name, text in block.bad_images.items()},
    }
    text = json.dumps(sealed(manifest), indent=1)
    for name, content in ((INDEX, index), (MANIFEST, text.encode())):
        with atomic_file(partial / name) as file:
            file.write(content)
    put_in_place(partial, place)  # what is there is empty, or `open_store` would have complained
    for name in (PROGRESS, LOCK):
        (place / name).unlink(missing_ok=True)


def _digest(source: Source) -> str:
    return hashlib.sha256(ids_as_bytes(source.split.ids).numpy().data).hexdigest()


@contextmanager
def _disk_errors(place: Path) -> Iterator[None]:
    """Turn a failure to write into an error of one line."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{place}: images cannot be packed ({error.strerror or error}); make room or choose "
            "another folder; the same command goes on where it stopped"
        ) from error

"""Stage 1: what is in the folder, and a small, clean, divided copy of it for all runs."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from linear_eval.datasets.image_files import few
from linear_eval.system.atomic_file import atomic_file
from linear_eval.system.atomic_folder import atomic_folder
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable
from linear_eval.system.screen import say
from ssl_bf.scan.copies import Looked, look_at
from ssl_bf.scan.duplicates import same_images
from ssl_bf.scan.found import HOLDOUT, TEST, TRAIN, Found, find_images
from ssl_bf.scan.parts import divide

SCAN_FILE = "scan.json"
IMAGES = "images"
LEAST_IMAGES = 100  # that can be read
LEAST_OF_CLASS = 5  # one to judge on, one to choose on, three to learn from
MOST_IMAGES = 20_000


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What was found.

    Attributes:
        images: that can be read and are used.
        unreadable: how many cannot be decoded.
        sides: shortest, median and longest short side in pixels.
        classes: name -> number of images; empty without labels.
        exact_copies: images with the bytes of an earlier one.
        near_copies: that look like an earlier one.
        leaked: judged images that the folder also has in an earlier part; left out.
        parts: train, holdout and test -> number of images.
        notes: lines for the reader.
    """

    images: int
    unreadable: int
    sides: tuple[int, int, int]
    classes: dict[str, int]
    exact_copies: int
    near_copies: int
    leaked: int
    parts: dict[str, int]
    notes: tuple[str, ...]

    @property
    def is_labelled(self) -> bool:
        """Whether there are classes."""
        return bool(self.classes)


def scan_folder(folder: Path, output: Path, *, labels: bool, side: int) -> Scan:
    """Scan, or read what an earlier command found.

    Args:
        folder: of the images.
        output: gets `images/PART/CLASS/...` and scan.json.
        labels: whether folders are taken for classes.
        side: short side of the copies.

    Raises:
        InputError: there is too little that can be read.
    """
    path = output / SCAN_FILE
    if path.is_file():
        return _read_scan(path)
    found = find_images(folder, labels=labels)
    sample, notes = _limited(found)
    _refuse_few(folder, len(sample.images), "images")
    say(f"scan: reading {len(sample.images)} images")
    looked = look_at(sample.images, side)
    good = [each for each in looked if not each.problem]
    bad = [each for each in looked if each.problem]
    if bad:
        names = few([each.image.name for each in bad])
        notes.append(f"{len(bad)} of {len(looked)} files cannot be read and are left out ({names})")
    _refuse_few(folder, len(good), f"images that can be read, of {len(looked)},")
    good, rare = _without_rare(good) if found.is_labelled else (good, [])
    if rare:
        notes.append(
            f"{len(rare)} classes with fewer than {LEAST_OF_CLASS} images are left out "
            f"({few(rare)})"
        )
    counts = Counter(each.image.class_name for each in good if found.is_labelled)
    if found.is_labelled and len(counts) < 2:
        raise InputError(
            f"{printable(str(folder))}: {len(counts)} classes have {LEAST_OF_CLASS} images that "
            "can be read, expected two or more; add images, or give --no-labels"
        )
    thumbnails = torch.stack([each.thumbnail for each in good if each.thumbnail is not None])
    groups, exact, near = same_images(thumbnails, [each.digest for each in good])
    parts, leaked = divide(
        [each.image.part for each in good],
        [each.image.class_name for each in good],
        groups,
        [each.image.name for each in good],
    )
    if empty := [name for name in (TRAIN, HOLDOUT, TEST) if name not in parts]:
        raise InputError(
            f"{printable(str(folder))}: no image is left for {' and '.join(empty)} ({leaked} are "
            "also in an earlier part), expected some of each class; give other images to judge on"
        )
    if leaked:
        notes.append(
            f"leakage: {leaked} images that judge are also in an earlier part, and are left out"
        )
    _write_images(output, good, parts)
    sides = sorted(min(each.size) for each in good)
    scan = Scan(
        images=len(good) - leaked,
        unreadable=len(bad),
        sides=(sides[0], round(statistics.median(sides)), sides[-1]),
        classes=dict(sorted(counts.items())),
        exact_copies=exact,
        near_copies=near,
        leaked=leaked,
        parts={name: parts.count(name) for name in (TRAIN, HOLDOUT, TEST)},
        notes=(*found.notes, *notes),
    )
    with atomic_file(path) as file:
        file.write(json.dumps(asdict(scan), indent=2).encode() + b"\n")
    return scan


def scan_lines(scan: Scan) -> list[str]:
    """What the reader should know of the images."""
    low, middle, high = scan.sides
    counts = sorted(scan.classes.values())
    of_classes = (
        f", {len(counts)} classes of {_range(counts[0], counts[-1])} images"
        if counts
        else ", no labels"
    )
    sides = f"{low} px" if low == high else f"{low} to {high} px, median {middle}"
    parts = ", ".join(f"{count} {name}" for name, count in scan.parts.items() if count)
    return [
        f"{scan.images} images{of_classes}; short side {sides}",
        f"{scan.exact_copies} exact and {scan.near_copies} near copies of other images, kept on "
        f"one side each; {scan.unreadable} unreadable",
        f"parts: {parts}",
        *scan.notes,
    ]


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _limited(found: Found) -> tuple[Found, list[str]]:
    """At most as many images as a machine can hold in memory, evenly spread over the folder."""
    total = len(found.images)
    if total <= MOST_IMAGES:
        return found, []
    rows = [row * total // MOST_IMAGES for row in range(MOST_IMAGES)]
    kept = tuple(found.images[row] for row in rows)
    note = f"{MOST_IMAGES} of {total} images are looked at, evenly spread"
    return Found(kept, found.is_labelled, found.notes), [note]


def _refuse_few(folder: Path, count: int, what: str) -> None:
    if count < LEAST_IMAGES:
        raise InputError(
            f"{printable(str(folder))}: {count} {what} found, expected {LEAST_IMAGES} or more: "
            "nothing can be learned from fewer, nor judged on them; add images"
        )


def _without_rare(good: Sequence[Looked]) -> tuple[list[Looked], list[str]]:
    """Without classes that cannot be in all parts, and their names.

    A class must also lie in the train part where the folder has one.
    """
    counts = Counter(each.image.class_name for each in good)
    trained = Counter(each.image.class_name for each in good if each.image.part in ("", TRAIN))
    rare = sorted(name for name in counts if min(counts[name], trained[name] + 2) < LEAST_OF_CLASS)
    return [each for each in good if each.image.class_name not in rare], rare


def _write_images(output: Path, good: Sequence[Looked], parts: Sequence[str]) -> None:
    with atomic_folder(output / IMAGES) as folder:
        for number, (each, part) in enumerate(zip(good, parts, strict=True)):
            if not part:
                continue
            place = folder / part / each.image.class_name
            place.mkdir(parents=True, exist_ok=True)
            suffix = each.image.path.suffix if each.copy is None else ".jpg"
            each.write(place / f"{number:06d}{suffix}")


def _read_scan(path: Path) -> Scan:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Scan(**{**found, "sides": tuple(found["sides"]), "notes": tuple(found["notes"])})
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: is damaged or of another version ({error}), expected what a scan found; name "
            "another --output"
        ) from error

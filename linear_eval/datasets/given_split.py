"""Images that a Python program hands in: a torch Dataset, a sequence or a tensor, as a split.

Shapes: M images, H x W pixels.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from linear_eval.datasets.bad_images import check_bad_images
from linear_eval.datasets.dataset import ImageSplit, MemoryReader, fingerprint_of
from linear_eval.datasets.decode import BadImageError
from linear_eval.datasets.given_images import as_pixels, as_pixels_of_all, kind_of
from linear_eval.datasets.given_labels import class_names_of, label_of, said_labels
from linear_eval.system.errors import InputError
from linear_eval.system.screen import progress_bar

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import Dataset

Images: TypeAlias = "Dataset[Any] | Sequence[Any] | Tensor | ImageSplit"
"""What is taken for images; items are an image, or a pair of an image and its label."""

_SOURCES = "a torch Dataset with a length, a sequence of images, or a tensor (N, 3, H, W)"


def given_split(
    images: Images,
    name: str = "dataset",
    fingerprint: str | None = None,
    max_bad: float | None = None,
) -> ImageSplit:
    """All of the images as a split whose labels and identity are known.

    Each image is looked at once for that; not at all where the data set says its labels
    (`targets`) and its fingerprint.

    Args:
        images: see `Images`; an item must be the same each time. Labels are integers >= 0, or -1
            for none. The attributes `targets` (M labels), `classes` (names) and `fingerprint` are
            used where there are such.
        name: how messages call it.
        fingerprint: text that is another one for other images; None: the attribute, or the images
            are hashed.
        max_bad: share of the images, of those that are hashed, that may be left out where reading
            raises BadImageError; None: that error is raised.

    Raises:
        InputError: it is no such thing, is empty, or holds something else than images and labels.
    """
    if isinstance(images, ImageSplit):
        if fingerprint is not None:
            raise InputError(f"{name}: has a fingerprint of its own; leave fingerprint out")
        return _not_empty(images, name)
    said = fingerprint if fingerprint is not None else getattr(images, "fingerprint", None)
    if said is not None and not (isinstance(said, str) and said):
        raise InputError(f"{name}: its fingerprint is {said!r}, expected text; give another one")
    if isinstance(images, torch.Tensor):
        split = split_of_tensor(images, name)
        content = said or _looked_at(split, name)[0]
    else:
        split = split_on_demand(images, name)
        targets = said_labels(images, len(split), name)
        if targets is not None:
            split.labels.copy_(targets)
        if said is not None and targets is not None:
            content = said
            _check_first(split, name)
        else:  # the labels are noted on the way
            digest, split = _looked_at(split, name, max_bad)
            content = said or digest
    split = replace(split, class_names=class_names_of(images, split.labels, name))
    return replace(
        split, fingerprint=fingerprint_of("given", split.ids, split.labels, content.encode())
    )


def split_on_demand(images: Images, name: str = "dataset") -> ImageSplit:
    """The images as a split that looks at an image when it is read, and notes its label then.

    Until then labels are -1; there are no class names, and no fingerprint.

    Raises:
        InputError: see `given_split`.
    """
    if isinstance(images, ImageSplit):
        return _not_empty(images, name)
    if isinstance(images, torch.Tensor):
        return split_of_tensor(images, name)
    if isinstance(images, str | bytes) or not all(
        hasattr(images, each) for each in ("__len__", "__getitem__")
    ):
        raise InputError(f"{name}: is {kind_of(images)}, expected {_SOURCES}; give one of these")
    count = len(images)  # type: ignore[arg-type]  # asked above
    labels = torch.full((count,), -1, dtype=torch.int64)
    return _not_empty(
        ImageSplit(
            ids=tuple(map(str, range(count))),
            labels=labels,
            class_names=(),
            read=_Reader(images, labels, name),
            fingerprint="",
        ),
        name,
    )


def split_of_tensor(images: Tensor, name: str) -> ImageSplit:
    """Images in one tensor: (M, 3, H, W) uint8, or float in [0, 1]; no labels."""
    pixels = as_pixels_of_all(images, name)
    return _not_empty(
        ImageSplit(
            ids=tuple(map(str, range(len(pixels)))),
            labels=torch.full((len(pixels),), -1, dtype=torch.int64),
            class_names=(),
            read=MemoryReader(pixels),
            fingerprint="",
            pixels=pixels,
        ),
        name,
    )


def _not_empty(split: ImageSplit, name: str) -> ImageSplit:
    if not len(split):
        raise InputError(f"{name}: holds no images, expected at least one; give another one")
    return split


def _check_first(split: ImageSplit, name: str) -> None:
    """Look at one image: whether it is one, and has the label that `targets` says."""
    said = int(split.labels[0])
    split.read(0)
    if int(split.labels[0]) != said:
        raise InputError(
            f"{name}: its first image has the label {int(split.labels[0])} and targets says {said},"
            " expected the same; correct the attribute targets, or remove it"
        )


def _looked_at(
    split: ImageSplit, name: str, max_bad: float | None = None
) -> tuple[str, ImageSplit]:
    """Look at every image once, which notes its label as well.

    Returns:
        SHA-256 (hex) of the pixels, and the split without what could not be read.
    """
    digest = hashlib.sha256()
    bad: dict[int, str] = {}
    with progress_bar(range(len(split)), f"hashing {name}", len(split), unit="image") as rows:
        for row in rows:
            try:
                image = split.read(row)
            except BadImageError as error:
                if max_bad is None:
                    raise
                bad[row] = str(error)
                continue
            digest.update(repr(tuple(image.shape)).encode())
            digest.update(image.contiguous().numpy().data)
    if bad:
        assert max_bad is not None, name
        check_bad_images(list(bad.values()), len(split), max_bad)
        note = f"{name}: {len(bad)} of {len(split)} images cannot be read and are left out"
        good = torch.tensor([row for row in range(len(split)) if row not in bad])
        split = replace(_not_empty(split.select(good), name), notes=(*split.notes, note))
    return digest.hexdigest(), split


@dataclass(frozen=True, eq=False)
class _Reader:
    """Ask the data set for an image, one thread at a time: it may hold an open file."""

    images: Any
    labels: Tensor
    name: str
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, index: int) -> Tensor:
        """(3, H, W) uint8; the label is noted."""
        where = f"{self.name}[{index}]"
        with self.lock:
            item = self.images[index]
        if isinstance(item, tuple | list):
            if len(item) != 2:
                raise InputError(
                    f"{where}: is {len(item)} values, expected an image, or an image and its label;"
                    " correct the data set"
                )
            item, label = item
            self.labels[index] = label_of(label, where)
        return as_pixels(item, where)

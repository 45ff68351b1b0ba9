"""What a data set hands out (`ImageSplit`) and the settings all data sets share.

Shapes: M images of a split, H x W pixels.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor

from linear_eval.datasets.contents import Contents

MAX_HOLDOUT = 0.5


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """One split of a data set: names and labels in memory, images read on demand.

    Attributes:
        ids: M stable names: the path below the split's folder (posix), or "textures/train/000012".
        labels: (M,) int64 on the CPU, an index into `class_names`; -1 where there is no label.
        class_names: name of each class, in the order of the labels.
        read: index -> (3, H, W) uint8 RGB; raises BadImageError naming the path.
        fingerprint: sha256 (hex) of the data set's name, ids, labels and file sizes: what is known
            before a file is read.
        pixels: (M, 3, H, W) uint8 when the whole split lies in memory already, otherwise None.
        folder: where the ids lie as files; None where the images are no files of their own.
        contents: what the files hold; None where the fingerprint says that already.
        decoding: what else decides the pixels, see `Decoding.identity`.
        domains: (M,) int64, where images come from named domains: which one each is of.
        notes: lines for the user about how the images were found; `tell_notes` prints them.
    """

    ids: tuple[str, ...]
    labels: Tensor
    class_names: tuple[str, ...]
    read: Callable[[int], Tensor]
    fingerprint: str
    pixels: Tensor | None = None
    folder: Path | None = None
    contents: Contents | None = None
    notes: tuple[str, ...] = ()
    decoding: str = ""
    domains: Tensor | None = None

    def __post_init__(self) -> None:
        """Assert that the columns belong together."""
        images = len(self.ids)
        assert self.labels.shape == (images,), (self.labels.shape, images)
        assert self.labels.dtype == torch.int64, self.labels.dtype
        assert self.pixels is None or len(self.pixels) == images, images
        assert self.domains is None or self.domains.shape == (images,), images

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, indices: Tensor) -> ImageSplit:
        """Part of the split, in the order given; class names and label numbers stay.

        Args:
            indices: (K,) int64, each in [0, M).
        """
        assert indices.dtype == torch.int64, indices.dtype
        ids = tuple(self.ids[row] for row in indices.tolist())
        labels = self.labels[indices]
        pixels = None if self.pixels is None else self.pixels[indices]
        return ImageSplit(
            ids=ids,
            labels=labels,
            class_names=self.class_names,
            read=_SelectedReader(self.read, indices) if pixels is None else MemoryReader(pixels),
            fingerprint=fingerprint_of(self.fingerprint, ids, labels, b"selected"),
            pixels=pixels,
            folder=self.folder,
            contents=self.contents.select(indices) if self.contents else None,
            notes=self.notes,
            decoding=self.decoding,
            domains=None if self.domains is None else self.domains[indices],
        )

    @property
    def pixel_fingerprint(self) -> str:
        """The fingerprint, with how the files are read: what features and stores are kept by."""
        if not self.decoding:
            return self.fingerprint
        return fingerprint_of(self.fingerprint, (), self.labels, self.decoding.encode())

    def content_fingerprint(self) -> str:
        """Identity by content: SHA-256 (hex) over the fingerprint and the digest of every image.

        Files that were not read yet are read for it.
        """
        if self.contents is None:
            return self.fingerprint
        digests = self.contents.digests().numpy().tobytes()
        return fingerprint_of(self.fingerprint, self.ids, self.labels, digests)


@dataclass(frozen=True)
class Judgement:
    """What one query should find, as gallery ids; images in no list are distractors.

    Attributes:
        easy: clearly the same.
        hard: the same, seen under difficult conditions.
        junk: never counted, neither as right nor as wrong.
    """

    easy: frozenset[str]
    hard: frozenset[str]
    junk: frozenset[str]


@dataclass(frozen=True, eq=False)
class RetrievalTask:
    """The gallery that test images search, of a data set with its own retrieval protocol.

    Attributes:
        gallery: the images to be found.
        judgements: query id -> what it should find; None: whatever has the query's label.
    """

    gallery: ImageSplit
    judgements: Mapping[str, Judgement] | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetSettings(ABC):
    """Keys that every data set has under `data:`.

    Attributes:
        max_images: train is cut to about this many images, stratified by class, at least one of
            each; None keeps all.
        long_tail: before that, the classes of train are thinned out exponentially: the last keeps
            1 / long_tail of its images; >= 1, None leaves the classes as they are.
        holdout: fraction of train, per class, kept for monitoring and choosing; in [0, 0.5].
        on_bad_image: what the reader of images does with one that cannot be decoded.
        max_bad: share of the images that may be skipped, in [0, 1]; more are an error.
    """

    max_images: int | None = None
    long_tail: float | None = None
    holdout: float = 0.1
    on_bad_image: Literal["error", "skip"] = "error"
    max_bad: float = 0.05

    def __post_init__(self) -> None:
        """Refuse numbers out of the ranges above.

        Raises:
            ValueError: a value is outside its range; the message begins with the key.
        """
        if self.max_images is not None and self.max_images < 1:
            raise ValueError(f"max_images: must be >= 1, got {self.max_images}")
        if self.long_tail is not None and not 1 <= self.long_tail < math.inf:
            raise ValueError(f"long_tail: must be >= 1, got {self.long_tail}")
        if not 0 <= self.max_bad <= 1:
            raise ValueError(f"max_bad: must be between 0 and 1, got {self.max_bad}")
        if not 0 <= self.holdout <= MAX_HOLDOUT:
            raise ValueError(f"holdout: must be between 0 and {MAX_HOLDOUT}, got {self.holdout}")

    @abstractmethod
    def open_train(self) -> ImageSplit:
        """All of train, before `long_tail`, `max_images` and `holdout` are applied."""

    @abstractmethod
    def open_test(self) -> ImageSplit:
        """The test split, labelled throughout; its label numbers are those of train.

        Unless `shares_classes` is false: then the labels are its own, and so are its classes.
        """

    @property
    def shares_classes(self) -> bool:
        """Whether test has the classes of train: all evaluators but retrieval need that."""
        return True

    def open_retrieval(self) -> RetrievalTask | None:
        """The gallery that test images search; None: they search each other."""
        return None


@dataclass(frozen=True, eq=False)
class MemoryReader:
    """Read images out of one tensor of pixels."""

    pixels: Tensor

    def __call__(self, index: int) -> Tensor:
        """(3, H, W) uint8, a copy that the caller may change."""
        return self.pixels[index].clone()


@dataclass(frozen=True, eq=False)
class _SelectedReader:
    # A class, not a closure, so that a split can be sent to a worker process.
    read: Callable[[int], Tensor]
    indices: Tensor

    def __call__(self, index: int) -> Tensor:
        return self.read(int(self.indices[index]))


def fingerprint_of(
    data_set: str, ids: Iterable[str], labels: Tensor, content: bytes | Iterable[int]
) -> str:
    """Identity of a split: sha256 (hex) over its name, ids, labels and content.

    Args:
        data_set: name of the data set.
        ids: M names; none holds a zero byte, as no path does.
        labels: (M,) int64.
        content: the size of each file in bytes, or whatever else pins the pixels.
    """
    sizes = content if isinstance(content, bytes) else repr(list(content)).encode()
    digest = hashlib.sha256()
    # Names that are no UTF-8 arrive with surrogates; each part is preceded by its length, so that
    # no two different splits feed the same bytes.
    for part in (
        data_set.encode(),
        "\0".join(ids).encode("utf-8", "surrogateescape"),
        labels.numpy().tobytes(),
        sizes,
    ):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()

"""Several splits of one data set as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from linear_eval.datasets.contents import joined_contents
from linear_eval.datasets.dataset import ImageSplit, fingerprint_of

if TYPE_CHECKING:
    from torch import Tensor


def joined_splits(parts: Sequence[ImageSplit]) -> ImageSplit:
    """The images of several splits of one data set, one below the other; no pixel is copied."""
    ids = tuple(name for part in parts for name in part.ids)
    labels = torch.cat([part.labels for part in parts])
    return ImageSplit(
        ids=ids,
        labels=labels,
        class_names=parts[0].class_names,
        read=_JoinedReader(tuple(part.read for part in parts), tuple(map(len, parts))),
        fingerprint=fingerprint_of(
            "joined", ids, labels, "".join(part.fingerprint for part in parts).encode()
        ),
        contents=joined_contents([part.contents for part in parts]),
        decoding=parts[0].decoding,
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


@dataclass(frozen=True, eq=False)
class _JoinedReader:
    readers: tuple[Callable[[int], Tensor], ...]
    lengths: tuple[int, ...]

    def __call__(self, index: int) -> Tensor:
        for read, length in zip(self.readers, self.lengths, strict=True):
            if index < length:
                return read(index)
            index -= length
        raise IndexError(index)

"""The images that are trained on or packed, and how to tell whether they have changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from linear_eval.datasets import DatasetConfig
from linear_eval.datasets.contents import changed_since
from linear_eval.datasets.dataset import DatasetSettings, ImageSplit
from linear_eval.datasets.selection import select_train
from linear_eval.datasets.splits import tell_notes
from ssl_bf.pixels.preparation import Preparation


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """What is to be said about a folder of images that no config names."""

    data: DatasetConfig
    views: Preparation = field(default_factory=Preparation)


@dataclass(frozen=True, eq=False)
class Source:
    """Training images, and what tells whether they are still the same.

    Attributes:
        split: those that are packed.
        fingerprint: of the whole data set that they are part of.
        look_again: opens the data set once more.
    """

    split: ImageSplit
    fingerprint: str
    look_again: Callable[[], Source]

    def has_changed(self) -> bool:
        """Whether the images are others by now; files with other stamps are read for it."""
        now = self.look_again()
        if now.fingerprint != self.fingerprint:
            return True
        return changed_since(self.split.contents, now.split.contents)


def open_source(data: DatasetSettings) -> Source:
    """The images that are trained on or held out, and what tells whether they have changed.

    Notes on how they were found are printed.
    """
    source = _listed(data)
    tell_notes([source.split])
    return source


def _listed(data: DatasetSettings) -> Source:
    whole = data.open_train()
    return Source(
        split=select_train(whole, data),
        fingerprint=whole.fingerprint,
        look_again=lambda: _listed(data),
    )

"""Data sets of retrieval that divide the classes: none of test is in train."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decoding import ImageFileSettings


@dataclass(frozen=True, kw_only=True)
class DividedClassesSettings(ImageFileSettings):
    """What such a data set needs besides a reader of its lists."""

    @property
    def shares_classes(self) -> bool:
        """Never: the classes are divided."""
        return False

    def open_train(self) -> ImageSplit:
        """The images of the first classes, numbered from 0.

        Raises:
            InputError: a list is missing or damaged, or an image it names is not there.
        """
        return self._open(is_train=True)

    def open_test(self) -> ImageSplit:
        """The images of the other classes, numbered from 0 as well."""
        return self._open(is_train=False)

    @abstractmethod
    def _open(self, *, is_train: bool) -> ImageSplit:
        """Read the lists, and look that the images are there."""

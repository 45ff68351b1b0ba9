"""Images that a Python program hands in, as a data set of a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NoReturn

from linear_eval.datasets.dataset import DatasetSettings, ImageSplit
from linear_eval.system.errors import InputError


@dataclass(frozen=True, kw_only=True)
class GivenConfig(DatasetSettings):
    """Images that a Python program handed in; a file can only tell which they were.

    Attributes:
        fingerprint: of the images.
    """

    name: Literal["given"] = "given"
    fingerprint: str

    def open_train(self) -> ImageSplit:
        """Only a `GivenImages` has them."""
        self._are_elsewhere()

    def open_test(self) -> ImageSplit:
        """Only a `GivenImages` has them."""
        self._are_elsewhere()

    def _are_elsewhere(self) -> NoReturn:
        raise InputError(
            "data.name: given, images that a Python program handed in, expected the name of a data "
            "set; hand them in again from Python, as dataset= of ssl_bf.pretrain or ssl_bf.resume"
        )


class GivenImages(GivenConfig):
    """The same with the images; no dataclass of its own, so that they are no keys."""

    def __init__(self, asked: GivenConfig, train: ImageSplit, test: ImageSplit | None = None):
        """Take over the settings of `asked`, and the images."""
        super().__init__(
            max_images=asked.max_images,
            long_tail=asked.long_tail,
            holdout=asked.holdout,
            on_bad_image=asked.on_bad_image,
            max_bad=asked.max_bad,
            fingerprint=asked.fingerprint,
        )
        object.__setattr__(self, "_splits", (train, test))

    def open_train(self) -> ImageSplit:
        """All of train."""
        train: ImageSplit = self.__dict__["_splits"][0]
        return train

    def open_test(self) -> ImageSplit:
        """What is judged on.

        Raises:
            InputError: none was given.
        """
        test: ImageSplit | None = self.__dict__["_splits"][1]
        return test if test is not None else super().open_test()

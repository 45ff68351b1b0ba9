"""Revisited Oxford and Paris: cropped queries, and what each should find, from a ground truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from linear_eval.datasets.class_folders import file_split
from linear_eval.datasets.dataset import (
    ImageSplit,
    Judgement,
    RetrievalTask,
    fingerprint_of,
)
from linear_eval.datasets.decoding import ImageFileSettings
from linear_eval.datasets.image_files import existing_folder
from linear_eval.datasets.listed_files import listed_images
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable
from linear_eval.system.user_text import TextError, read_text

if TYPE_CHECKING:
    from torch import Tensor

CONVERSION = (
    """python -c "import json, pickle; data = pickle.load(open('gnd_roxford5k.pkl', 'rb')); """
    """print(json.dumps(data, default=lambda array: array.tolist()))" > gnd_roxford5k.json"""
)
"""Makes our JSON of the published pickle. A pickle can run code: the user decides to trust it."""

_SUFFIX = ".jpg"
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True, kw_only=True)
class RevisitedConfig(ImageFileSettings):
    """Images in `root/jpg/NAME.jpg`, queries and their ground truth in a JSON file.

    The JSON has the content of the published `gnd_roxford5k.pkl` or `gnd_rparis6k.pkl`: `imlist`
    and `qimlist` (names of gallery and queries), and `gnd`, for each query `bbx` (left, top, right,
    bottom) and `easy`, `hard`, `junk` (positions in `imlist`). `CONVERSION` makes it.

    Attributes:
        root: the folder with `jpg`, or with the images themselves.
        ground_truth: the JSON file.

    Source: Radenovic et al. 2018 (arXiv 1803.11285).
    """

    name: Literal["revisited"] = "revisited"
    root: str
    ground_truth: str

    @property
    def shares_classes(self) -> bool:
        """Never: there are no classes."""
        return False

    def open_train(self) -> ImageSplit:
        """The gallery, unlabelled: there are no other images, and no evaluator learns from it.

        Raises:
            InputError: the ground truth cannot be read or is of another form, or an image that it
                names is not there.
        """
        return self.open_retrieval().gallery

    def open_test(self) -> ImageSplit:
        """The queries, unlabelled, each cut out of its image."""
        truth = _read(self.ground_truth)
        boxes = tuple(_box(self.ground_truth, entry) for entry in truth["gnd"])
        queries = self._images(truth["qimlist"])
        content = repr((queries.fingerprint, boxes)).encode()
        return replace(
            queries,
            read=CroppedReader(queries.read, boxes, queries.ids),
            fingerprint=fingerprint_of(self.name, queries.ids, queries.labels, content),
        )

    def open_retrieval(self) -> RetrievalTask:
        """The gallery, and what each query should find there."""
        truth = _read(self.ground_truth)
        gallery = self._images(truth["imlist"])
        queries = self._images(truth["qimlist"])
        judgements = {
            query: _judgement(self.ground_truth, entry, gallery.ids)
            for query, entry in zip(queries.ids, truth["gnd"], strict=True)
        }
        return RetrievalTask(gallery=gallery, judgements=judgements)

    def _images(self, names: Sequence[str]) -> ImageSplit:
        root = existing_folder(self.root)
        folder = root / "jpg" if (root / "jpg").is_dir() else root
        images = listed_images(folder, [f"{name}{_SUFFIX}" for name in names])
        return file_split(self.name, folder, images, [-1] * len(images), (), decoding=self.decoding)


@dataclass(frozen=True)
class CroppedReader:
    """Cut a box out of each image; coordinates are rounded and held inside the image."""

    read: Callable[[int], Tensor]
    boxes: tuple[Box, ...]
    ids: tuple[str, ...]

    def __call__(self, index: int) -> Tensor:
        """(3, H, W) uint8.

        Raises:
            InputError: nothing of the image lies in its box.
        """
        image = self.read(index)
        height, width = image.shape[-2:]
        left, top, right, bottom = (max(0, round(edge)) for edge in self.boxes[index])
        cut = image[:, top : min(bottom, height), left : min(right, width)].contiguous()
        if not cut.numel():
            raise InputError(
                f"{printable(self.ids[index])}: has {width} x {height} pixels, expected some in"
                f" its box {self.boxes[index]}; correct data.ground_truth or data.root"
            )
        return cut


def _read(ground_truth: str) -> dict[str, Any]:
    """The JSON, its lists checked for their form and length."""
    try:
        truth = json.loads(read_text(Path(ground_truth).expanduser()))
    except TextError as error:
        raise _wrong(ground_truth, f": {error}") from error
    except ValueError as error:
        raise _wrong(ground_truth, f" cannot be read ({printable(str(error))})") from error
    lists = {"imlist": str, "qimlist": str, "gnd": dict}
    for key, kind in lists.items():
        values = truth.get(key) if isinstance(truth, dict) else None
        if not isinstance(values, list) or not all(isinstance(each, kind) for each in values):
            raise _wrong(ground_truth, f" has no list '{key}'")
    if not len(set(truth["qimlist"])) == len(truth["qimlist"]) == len(truth["gnd"]):
        raise _wrong(ground_truth, " has not one entry of 'gnd' for each name of 'qimlist'")
    if len(set(truth["imlist"])) != len(truth["imlist"]):
        raise _wrong(ground_truth, " names an image of 'imlist' twice")
    return dict(truth)


def _box(ground_truth: str, entry: Mapping[str, Any]) -> Box:
    try:
        left, top, right, bottom = (float(edge) for edge in entry["bbx"])
    except (KeyError, TypeError, ValueError) as error:
        raise _wrong(ground_truth, " has a query without four numbers as 'bbx'") from error
    return left, top, right, bottom


def _judgement(ground_truth: str, entry: Mapping[str, Any], ids: tuple[str, ...]) -> Judgement:
    lists = {}
    for key in ("easy", "hard", "junk"):
        rows = entry.get(key)
        if not isinstance(rows, list) or not all(
            isinstance(row, int) and 0 <= row < len(ids) for row in rows
        ):
            raise _wrong(ground_truth, f" has a query whose '{key}' are no positions in 'imlist'")
        lists[key] = frozenset(ids[row] for row in rows)
    if sum(map(len, lists.values())) != len(frozenset().union(*lists.values())):
        raise _wrong(ground_truth, " lists an image twice for one query")
    return Judgement(**lists)


def _wrong(ground_truth: str, problem: str) -> InputError:
    return InputError(
        f"data.ground_truth: '{printable(ground_truth)}'{problem}, expected the published ground"
        f" truth as JSON; make it with {CONVERSION}"
    )

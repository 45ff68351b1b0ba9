"""The parts of a data set that an evaluation needs, opened and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from linear_eval.datasets import DatasetConfig
from linear_eval.datasets.dataset import ImageSplit, Judgement, RetrievalTask, fingerprint_of
from linear_eval.datasets.image_files import few
from linear_eval.datasets.overlap import overlap_note
from linear_eval.datasets.selection import open_selected_train, split_holdout
from linear_eval.system import screen
from linear_eval.system.distributed import is_main
from linear_eval.system.errors import InputError
from linear_eval.system.printable import one_line

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class EvaluationSplits:
    """`train` without its hold-out, the hold-out (None if there is none), and test.

    Attributes:
        data: as asked for.
        train: without its hold-out.
        holdout: None if there is none.
        test: what is judged on; in retrieval, the queries.
        retrieval: the data set's own gallery and what is to be found in it, if it has these.
    """

    data: DatasetConfig
    train: ImageSplit
    holdout: ImageSplit | None
    test: ImageSplit
    retrieval: RetrievalTask | None = None

    @property
    def shares_classes(self) -> bool:
        """Whether test has the classes of train."""
        return self.data.shares_classes

    @property
    def gallery_size(self) -> int:
        """Number of train images with the hold-out."""
        return len(self.train) + (len(self.holdout) if self.holdout else 0)

    @property
    def whole_labels(self) -> Tensor:
        """(M,) of train with its hold-out."""
        return torch.cat([part.labels for part in (self.train, self.holdout) if part])

    @property
    def judgements(self) -> Mapping[str, Judgement] | None:
        """What each test image should find, of a data set with a ground truth."""
        return self.retrieval.judgements if self.retrieval else None

    @property
    def parts(self) -> dict[str, ImageSplit]:
        """The existing parts, by name."""
        own = self.retrieval.gallery if self.retrieval else None
        parts = {"train": self.train, "holdout": self.holdout, "test": self.test, "gallery": own}
        return {name: split for name, split in parts.items() if split is not None}

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the images used, in hex: equal numbers need equal data."""
        first = ("train", "test", "holdout", "gallery")  # the order that old results were made with
        ids = [self.parts[name].fingerprint for name in first if name in self.parts]
        return fingerprint_of("evaluation", ids, self.test.labels, b"")

    def contents(self) -> dict[str, str]:
        """Identity by content of every part whose files were read, see `content_fingerprint`."""
        return {
            name: split.content_fingerprint()
            for name, split in self.parts.items()
            if split.contents is None or split.contents.are_known
        }

    def overlap_note(self) -> str | None:
        """A line if test images are also in train, see `overlap.py`."""
        if self.judgements is not None:
            return None  # queries may be images of the gallery, and nothing is learned
        learned = [split for split in (self.train, self.holdout) if split is not None]
        return overlap_note(learned, self.test, ("train", "test"))

    def absent_note(self) -> str | None:
        """A line where test has no image of some class that train has."""
        if not self.shares_classes or self.judgements is not None:
            return None
        learned = {int(label) for label in self.train.labels.unique() if label >= 0}
        absent = sorted(learned - {int(label) for label in self.test.labels.unique()})
        if not absent:
            return None
        names = few([self.train.class_names[label] for label in absent])
        return f"{len(absent)} of {len(learned)} classes have no test image ({names})"


def open_splits(data: DatasetConfig) -> EvaluationSplits:
    """Open train and test, cut train to `max_images`, and set its hold-out apart.

    Raises:
        InputError: a split is missing or empty, has images without a label that it needs, or the
            classes of the two splits are not the same (or not different ones, where the data set
            says that they are).
    """
    train, test = open_selected_train(data), data.open_test()
    retrieval = data.open_retrieval()
    judged = retrieval is not None and retrieval.judgements is not None
    for name, split in (("train", train), ("test", test)):
        if not len(split):
            raise InputError(f"data: the {name} split is empty; look at data.root")
        unlabelled = int((split.labels < 0).sum())
        if unlabelled and not judged:
            raise InputError(
                f"data: {unlabelled} of {len(split)} {name} images have no label; "
                "an evaluation needs one folder per class"
            )
    if data.shares_classes and train.class_names != test.class_names:
        raise InputError(
            f"data: {_class_difference(train, test)}; both splits need the same classes"
        )
    both = sorted(set(train.class_names) & set(test.class_names))
    if both and not data.shares_classes:
        or_shared = ", or set data.classes=shared" if hasattr(data, "classes") else ""
        raise InputError(
            f"data: {len(both)} classes are in train and in test ({few(both)}), expected none "
            f"in both; move them to one side{or_shared}"
        )
    rest, holdout = split_holdout(train, data.holdout)
    return EvaluationSplits(
        data=data,
        train=rest,
        holdout=holdout if len(holdout) else None,
        test=test,
        retrieval=retrieval,
    )


def _class_difference(train: ImageSplit, test: ImageSplit) -> str:
    only_train = sorted(set(train.class_names) - set(test.class_names))
    only_test = sorted(set(test.class_names) - set(train.class_names))
    if not only_train and not only_test:
        return "train and test number their classes differently"
    sides = [
        f"only in {name}: {', '.join(classes[:3])}{', ...' * (len(classes) > 3)}"
        for name, classes in (("train", only_train), ("test", only_test))
        if classes
    ]
    counts = f"train has {len(train.class_names)} classes and test {len(test.class_names)}"
    return f"{counts} ({'; '.join(sides)})"


def tell_notes(splits: Iterable[ImageSplit]) -> None:
    """Print each note of the splits once, before the work begins; of several processes, one."""
    if is_main():
        for note in dict.fromkeys(note for split in splits for note in split.notes):
            screen.say(f"note: {one_line(note)}")

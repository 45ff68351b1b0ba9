"""The three parts of a data set that an evaluation needs, opened and checked."""

from __future__ import annotations

from dataclasses import dataclass

from linear_eval.datasets import DatasetConfig
from linear_eval.datasets.dataset import ImageSplit, fingerprint_of
from linear_eval.datasets.selection import open_selected_train, split_holdout
from linear_eval.errors import InputError


@dataclass(frozen=True, eq=False)
class EvaluationSplits:
    """`train` without its hold-out, the hold-out (None if there is none), and test."""

    train: ImageSplit
    holdout: ImageSplit | None
    test: ImageSplit

    @property
    def gallery_size(self) -> int:
        """Number of train images with the hold-out."""
        return len(self.train) + (len(self.holdout) if self.holdout else 0)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the images used, in hex: equal numbers need equal data."""
        parts = [self.train, self.test] + ([self.holdout] if self.holdout else [])
        ids = [part.fingerprint for part in parts]
        return fingerprint_of("evaluation", ids, self.test.labels, b"")


def open_splits(data: DatasetConfig) -> EvaluationSplits:
    """Open train and test, cut train to what is asked for, and set its hold-out apart.

    Raises:
        InputError: a split is missing or empty, has images without a label, or the two splits do
            not have the same classes.
    """
    train, test = open_selected_train(data), data.open_test()
    for name, split in (("train", train), ("test", test)):
        if not len(split):
            raise InputError(f"data: the {name} split is empty; look at data.root")
        if unlabelled := int((split.labels < 0).sum()):
            raise InputError(
                f"data: {unlabelled} of {len(split)} {name} images have no label; "
                "an evaluation needs one folder per class"
            )
    if train.class_names != test.class_names:
        raise InputError(
            f"data: {_class_difference(train, test)}; both splits need the same classes"
        )
    rest, holdout = split_holdout(train, data.holdout)
    return EvaluationSplits(train=rest, holdout=holdout if len(holdout) else None, test=test)


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

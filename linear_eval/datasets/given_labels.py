"""Labels and class names of images that a Python program hands in.

Shapes: M images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def said_labels(images: Any, count: int, name: str) -> Tensor | None:
    """The labels (M,) that the data set tells without its images; None if it does not.

    Raises:
        InputError: they are no M labels.
    """
    said = getattr(images, "targets", None)
    if said is None:
        return None
    try:
        found = [label_of(each, f"{name}.targets") for each in said]
    except TypeError:
        found = []
    if len(found) != count:
        raise InputError(
            f"{name}: its targets are {len(found)} labels for {count} images, expected one for "
            "each; correct the attribute targets, or remove it"
        )
    return torch.tensor(found, dtype=torch.int64)


def label_of(value: Any, where: str) -> int:
    """A label as a number.

    Raises:
        InputError: it is no integer >= -1.
    """
    try:
        label = int(value.item() if hasattr(value, "item") else value.__index__())
        is_whole = label == value
    except (AttributeError, TypeError, ValueError, RuntimeError):
        label, is_whole = -2, False
    if not is_whole or label < -1:
        raise InputError(
            f"{where}: the label is {str(value)[:60]!r}, expected an integer >= 0, or -1 for none; "
            "correct the data set"
        )
    return label


def class_names_of(images: Any, labels: Tensor, name: str) -> tuple[str, ...]:
    """The names that the data set gives (`classes`), or else the numbers of the labels.

    Raises:
        InputError: there are more labels than names.
    """
    if isinstance(images, ImageSplit):
        return images.class_names
    count = int(labels.max()) + 1
    classes = getattr(images, "classes", None)
    is_named = isinstance(classes, Sequence) and not isinstance(classes, str)
    names = tuple(map(str, classes)) if is_named and classes else _numbers(count)
    if count > len(names):
        raise InputError(
            f"{name}: has the label {count - 1} and {len(names)} classes, expected labels of 0 to "
            f"{len(names) - 1}; correct its labels or its attribute classes"
        )
    return names


def with_common_classes(first: ImageSplit, second: ImageSplit) -> tuple[ImageSplit, ImageSplit]:
    """Both, where classes have only numbers, with as many as the larger of them has."""
    longer = max(first.class_names, second.class_names, key=len)
    if longer != _numbers(len(longer)):
        return first, second
    first, second = (
        replace(each, class_names=longer)
        if each.class_names == _numbers(len(each.class_names))
        else each
        for each in (first, second)
    )
    return first, second


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))

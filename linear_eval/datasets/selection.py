"""Parts of a split, stratified by class or with a long tail, chosen by the hash of each image's id.

An image's hash depends on its id alone, so the choice depends neither on the order of the images
nor on a seed, and adding images moves few others across the border. Images without a label (-1)
count as one class.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch

from linear_eval.datasets.dataset import MAX_HOLDOUT, DatasetSettings, ImageSplit
from linear_eval.system.errors import InputError

_LIMIT_SALT = b"limit"  # not the hold-out's: a limited train set must not favour its images


def open_selected_train(data: DatasetSettings) -> ImageSplit:
    """Open train and apply `long_tail` and `max_images`, hold-out included."""
    return select_train(data.open_train(), data)


def select_train(train: ImageSplit, data: DatasetSettings) -> ImageSplit:
    """Train after `long_tail` and `max_images`, hold-out included.

    Raises:
        InputError: `max_images` is less than the number of classes.
    """
    classes = len(train.labels.unique())
    if data.max_images is not None and data.max_images < classes:
        raise InputError(
            f"data.max_images: {data.max_images} is less than the {classes} classes of train, "
            f"expected at least an image of each; set data.max_images={classes} or more"
        )
    return limit_images(long_tailed(train, data.long_tail), data.max_images)


def long_tailed(split: ImageSplit, factor: float | None) -> ImageSplit:
    """Thin the classes out exponentially, in the order of their numbers; order preserved.

    Class i of C keeps the floor of count * factor ** (-i / (C - 1)) images, at least one: the first
    class stays whole, the last keeps 1 / factor of its images.

    Args:
        split: any split; images without a label are kept.
        factor: >= 1; None keeps everything.

    Source: Cui et al. 2019 (arXiv 1901.05555).
    """
    if factor is None:
        return split
    last = max(1, len(split.class_names) - 1)
    kept = []
    for rows in _rows_by_class(split):
        label = max(0, int(split.labels[rows[0]]))
        # a product that is whole on paper must not fall below itself in floating point
        quota = math.floor(len(rows) * factor ** (-label / last) + 1e-9)
        kept += _by_hash(split, rows, _LIMIT_SALT)[: max(1, quota)]
    return split.select(torch.tensor(sorted(kept), dtype=torch.int64))


def limit_images(split: ImageSplit, max_images: int | None) -> ImageSplit:
    """Cut a split to about `max_images`, each class by the same factor, order preserved.

    Args:
        split: any split.
        max_images: >= 1; None, or at least the length of the split, keeps everything.

    Returns:
        `max_images` images; more only if there are more classes, since each class keeps one.
    """
    if max_images is None or max_images >= len(split):
        return split
    if max_images < 1:
        raise ValueError(f"max_images: must be >= 1, got {max_images}")
    classes = _rows_by_class(split)
    quotas = _quotas([len(rows) for rows in classes], max_images)
    kept = [
        row
        for rows, quota in zip(classes, quotas, strict=True)
        for row in _by_hash(split, rows, _LIMIT_SALT)[:quota]
    ]
    return split.select(torch.tensor(sorted(kept), dtype=torch.int64))


def split_holdout(split: ImageSplit, fraction: float) -> tuple[ImageSplit, ImageSplit]:
    """Divide a split into (rest, hold-out), both stratified by class, order preserved.

    Of each class the `round(fraction * count)` images with the smallest hash are held out; at
    least one where the class has two images or more, and never the only one.

    Args:
        split: any split.
        fraction: in [0, 0.5]; 0 gives an empty hold-out.
    """
    if not 0 <= fraction <= MAX_HOLDOUT:
        raise ValueError(f"holdout: must be between 0 and {MAX_HOLDOUT}, got {fraction}")
    held = torch.zeros(len(split), dtype=torch.bool)
    for rows in _rows_by_class(split):
        if fraction > 0 and len(rows) >= 2:
            count = max(1, round(fraction * len(rows)))
            held[_by_hash(split, rows, b"")[:count]] = True
    return split.select((~held).nonzero().flatten()), split.select(held.nonzero().flatten())


def _rows_by_class(split: ImageSplit) -> list[list[int]]:
    rows: dict[int, list[int]] = {}
    for row, label in enumerate(split.labels.tolist()):
        rows.setdefault(label, []).append(row)
    return [rows[label] for label in sorted(rows)]


def _by_hash(split: ImageSplit, rows: Sequence[int], salt: bytes) -> list[int]:
    def rank(row: int) -> tuple[bytes, str]:
        name = split.ids[row]
        content = name.encode("utf-8", "surrogateescape")
        return hashlib.blake2b(content, digest_size=16, salt=salt).digest(), name

    return sorted(rows, key=rank)


def _quotas(counts: Sequence[int], total: int) -> list[int]:
    """Shares of `total` in proportion to `counts` (largest remainder), each at least 1."""
    whole = sum(counts)
    quotas = [count * total // whole for count in counts]
    # Ties go to the class with the lower number: sorted() is stable.
    by_remainder = sorted(range(len(counts)), key=lambda i: -(counts[i] * total % whole))
    for i in by_remainder[: total - sum(quotas)]:
        quotas[i] += 1
    return [max(1, quota) for quota in quotas]

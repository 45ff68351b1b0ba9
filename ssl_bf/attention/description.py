"""The numbers of one related batch and of the run, as JSON has them.

Shapes: N images of the batch, B sequences of g rows, R rows that each of those may attend to.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from linear_eval.datasets.dataset import ImageSplit
from ssl_bf.attention.one_batch import RelatedBatch
from ssl_bf.attention.over_training import Curve
from ssl_bf.attention.shares import attention_shares
from ssl_bf.layers.attention_weights import Attention

DIGITS = 6
MOST = 10  # of what a chosen row attends to


def describe(
    related: RelatedBatch,
    images: ImageSplit,
    rows: list[int],
    curves: dict[str, Curve],
) -> dict[str, Any]:
    """All that the picture is drawn from, but for the pixels.

    Args:
        related: the batch.
        images: that the run trains on.
        rows: of the batch, whose attention is listed one by one.
        curves: over training.
    """
    labels = images.labels[related.images]
    is_labelled = bool((labels >= 0).any())
    return {
        "step": related.step,
        "view": related.view,
        "notes": related.notes,
        "images": [images.ids[index] for index in related.images.tolist()],
        "classes": _class_names(images, labels) if is_labelled else None,
        "groups": related.members.tolist(),
        "stream_cosine": {
            "mean": _rounded(related.cosines.mean()),
            "standard_deviation": _rounded(related.cosines.std()),
            "of_each_image": _list(related.cosines),
        },
        "same_class_at_random": _at_random(images, labels) if is_labelled else None,
        "layers": [_layer(layer, related, images.labels) for layer in related.layers],
        "rows": [_row(related, row, images) for row in rows] if related.layers else [],
        "over_training": {
            name: {"step": steps, "value": values} for name, (steps, values) in curves.items()
        },
    }


def _layer(layer: Attention, related: RelatedBatch, labels: Tensor) -> dict[str, Any]:
    own = labels[related.images][related.members]
    shares = attention_shares(layer, own, labels[related.columns])
    choices = layer.seen.expand_as(layer.weights).sum(dim=3)
    logs = choices.double().log()
    return {
        "heads": layer.weights.shape[1],
        "rows_to_choose_from": _rounded(choices.double().mean()),
        "entropy": _rounded(layer.entropy.mean()),
        "log_rows_to_choose_from": _rounded(logs.mean()),
        "relative_entropy": _rounded(layer.relative_entropy()),
        "entropy_of_each_head": _list(layer.entropy.mean(dim=(0, 2))),
        "share_of_itself": round(shares.itself, DIGITS),
        "share_of_same_class": _optional(shares.same_class),
        "share_of_same_class_by_chance": _optional(shares.by_chance),
    }


def _row(related: RelatedBatch, row: int, images: ImageSplit) -> dict[str, Any]:
    attended = most_attended(related, row, MOST)
    return {
        "row": row,
        "image": images.ids[int(related.images[row])],
        "attends_to": [
            {"image": images.ids[image], "itself": itself, "weight": round(weight, DIGITS)}
            for image, weight, itself in attended
        ],
    }


def most_attended(related: RelatedBatch, row: int, count: int) -> list[tuple[int, float, bool]]:
    """(image, weight, whether it is the row itself), by falling weight > 0; last layer."""
    sequence, place = (int(found[0]) for found in torch.where(related.members == row))
    layer = related.layers[-1]
    weights = layer.weights[sequence, :, place].mean(dim=0)
    order = weights.argsort(descending=True, stable=True)[:count].tolist()
    images = related.columns[sequence].tolist()
    return [(images[i], float(weights[i]), i == place) for i in order if float(weights[i]) > 0]


def _at_random(images: ImageSplit, labels: Tensor) -> float:
    """Chance that a random training image has the class of an image of the batch."""
    known = images.labels[images.labels >= 0]
    counts = torch.bincount(known, minlength=len(images.class_names)).double()
    return _rounded((counts[labels[labels >= 0]] / len(images)).mean()) or 0.0


def _class_names(images: ImageSplit, labels: Tensor) -> list[str | None]:
    return [None if label < 0 else images.class_names[label] for label in labels.tolist()]


def _rounded(value: Tensor) -> float | None:
    number = float(value)
    return round(number, DIGITS) if math.isfinite(number) else None


def _optional(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def _list(values: Tensor) -> list[float]:
    return [round(value, DIGITS) for value in values.tolist()]

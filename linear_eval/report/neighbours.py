"""Test images with the train images that are nearest to them, some named right and some wrong.

Shapes: M test images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from linear_eval.report.answers import evenly
from linear_eval.report.page_features import PageFeatures
from linear_eval.report.pictures import Picture, Pictures
from linear_eval.results.per_image import PerImage
from linear_eval.search.exact import nearest_neighbours

NUM_RIGHT, NUM_WRONG = 4, 6
K = 10


@dataclass(frozen=True)
class Found:
    """A neighbour: its picture, its cosine similarity, and whether it is of the query's class."""

    picture: Picture
    similarity: float
    is_same: bool


@dataclass(frozen=True)
class Query:
    """A test image, what it was called, and its nearest train images, the nearest first."""

    picture: Picture
    said: str
    is_right: bool
    found: tuple[Found, ...]


def neighbours_of(
    answers: PerImage, predictor: str, pictures: Pictures, features: PageFeatures
) -> list[Query]:
    """Some images that the predictor named right, then some that it named wrong.

    They are evenly spaced over the test split, class by class, so that nobody picked them.

    Args:
        answers: of the judged backbone.
        predictor: whose names count.
        pictures: the images.
        features: of the same backbone.
    """
    said = answers.predictions[answers.judged][predictor]
    by_class = answers.labels.argsort(kind="stable")
    is_right = (said == answers.labels)[by_class]
    right, wrong = by_class[is_right].tolist(), by_class[~is_right].tolist()
    rows = [*evenly(right, NUM_RIGHT), *evenly(wrong, NUM_WRONG)]
    gallery = pictures.gallery_rows([table.ids for table in features.gallery])
    if not rows or not gallery:
        return []
    similar, found = nearest_neighbours(
        features.test.features[torch.tensor(rows)],
        features.gallery_features,
        min(K, len(gallery)),
        metric="cosine",
    )
    test = pictures.rows_of_test
    return [
        Query(
            picture=pictures.of(pictures.splits.test, test[answers.ids[row]]),
            said=answers.class_names[said[row]],
            is_right=bool(said[row] == answers.labels[row]),
            found=tuple(
                _found(pictures, gallery[place], float(score), int(answers.labels[row]))
                for score, place in zip(scores.tolist(), places.tolist(), strict=True)
            ),
        )
        for row, scores, places in zip(rows, similar, found, strict=True)
    ]


def _found(pictures: Pictures, place: tuple[str, int], score: float, label: int) -> Found:
    split = pictures.splits.parts[place[0]]
    return Found(
        picture=pictures.of(split, place[1]),
        similarity=score,
        is_same=int(split.labels[place[1]]) == label,
    )

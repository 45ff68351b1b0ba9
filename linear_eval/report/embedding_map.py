"""Test images on a plane, near each other where their features are.

Shapes: M test images, n of them on the map, D feature width.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from linear_eval.report.answers import evenly
from linear_eval.report.page_features import PageFeatures
from linear_eval.report.pictures import SPRITE_COLUMNS, Pictures
from linear_eval.results.intervals import Array
from linear_eval.results.per_image import PerImage

if TYPE_CHECKING:
    from torch import Tensor

MAX_POINTS = 1000
GRID = 1000  # positions are whole numbers up to this
MAX_COLOURS = 10  # classes beyond share one
_PERPLEXITY = 30


@dataclass(frozen=True, kw_only=True)
class EmbeddingMap:
    """A map and its pictures.

    Attributes:
        layouts: name of a projection -> (n, 2) whole numbers in [0, GRID].
        notes: name of a projection -> how to read it.
        names: of the images.
        labels: n numbers of classes.
        said: n numbers of the classes that were named; -1 where none was.
        class_names: of all classes.
        colours: number of a colour for each class that has one.
        sprite: all pictures in one.
        columns: pictures in a line of it.
        side: of a picture.
        total: number of test images.
        absent: projections that need a package which is not installed.
    """

    layouts: dict[str, list[list[int]]]
    notes: dict[str, str]
    names: list[str]
    labels: list[int]
    said: list[int]
    class_names: list[str]
    colours: dict[int, int]
    sprite: str
    columns: int
    side: int
    total: int
    absent: list[str]

    def as_data(self) -> dict[str, Any]:
        """What the page's script needs."""
        keys = ("layouts", "notes", "names", "labels", "said", "class_names", "columns", "side")
        return {key: getattr(self, key) for key in keys}


def embedding_map(
    answers: PerImage, predictor: str | None, pictures: Pictures, features: PageFeatures
) -> EmbeddingMap | None:
    """A map of evenly spaced test images; None for fewer than three.

    Args:
        answers: of the judged backbone; in the order of `features.test`.
        predictor: whose names are shown; None: nobody's.
        pictures: the images.
        features: of the same backbone.
    """
    rows = evenly(range(len(answers.ids)), MAX_POINTS)
    if len(rows) < 3:
        return None
    vectors = torch.nn.functional.normalize(features.test.features[torch.tensor(rows)].float())
    plane, share = pca(vectors)
    layouts = {"PCA": plane}
    notes = {"PCA": f"The two main directions hold {100 * share:.0f} % of the variance."}
    absent = []
    start = _scaled(plane)
    if importlib.util.find_spec("sklearn"):
        layouts["t-SNE"] = _tsne(vectors.numpy())
        notes["t-SNE"] = "Neighbourhoods count; distances between groups mean little."
    else:
        absent.append("t-SNE (scikit-learn)")
    if importlib.util.find_spec("umap"):
        layouts["UMAP"] = _umap(vectors.numpy())
        notes["UMAP"] = "Neighbourhoods count; distances between groups mean little."
    else:
        absent.append("UMAP (umap-learn)")
    said = answers.predictions[answers.judged][predictor] if predictor else None
    labels = answers.labels[rows].tolist()
    test = pictures.rows_of_test
    sprite, side = pictures.sprite(pictures.splits.test, [test[answers.ids[row]] for row in rows])
    return EmbeddingMap(
        layouts={
            name: (start if name == "PCA" else _scaled(found)) for name, found in layouts.items()
        },
        notes=notes,
        names=[answers.ids[row] for row in rows],
        labels=labels,
        said=[-1] * len(rows) if said is None else said[rows].tolist(),
        class_names=list(answers.class_names),
        colours=_colours(labels),
        sprite=sprite,
        columns=SPRITE_COLUMNS,
        side=side,
        total=len(answers.ids),
        absent=absent,
    )


def pca(vectors: Tensor) -> tuple[Array, float]:
    """Places (n, 2) along the two directions of most variance, and the share that these hold.

    Args:
        vectors: (n, D), n >= 3, D >= 2. The sign of a direction is that which makes its largest
            entry positive, so that equal features give equal maps.
    """
    centred = (vectors - vectors.mean(dim=0)).double()
    _, lengths, directions = torch.linalg.svd(centred, full_matrices=False)
    directions = directions[:2]
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    places = centred @ (directions * torch.where(largest < 0, -1.0, 1.0)).T
    whole = float((lengths**2).sum())
    share = float((lengths[:2] ** 2).sum()) / whole if whole else 0.0
    found: Array = places.numpy()
    return found, share


def _tsne(vectors: Array) -> Array:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    tsne = TSNE(n_components=2, init="pca", perplexity=perplexity, random_state=0)
    with threadpool_limits(1):  # on a busy machine its threads wait for each other: 170 s, not 5
        found: Array = tsne.fit_transform(vectors)
    return found


def _umap(vectors: Array) -> Array:
    import umap

    found: Array = umap.UMAP(
        n_components=2, n_neighbors=min(15, len(vectors) - 1), random_state=0
    ).fit_transform(vectors)
    return found


def _scaled(places: Array) -> list[list[int]]:
    """Whole numbers; both directions by one factor, the middle in the middle."""
    low, high = places.min(axis=0), places.max(axis=0)
    size = float((high - low).max()) or 1.0
    moved = (places - (low + high) / 2) / size + 0.5
    return np.rint(moved * GRID).astype(int).tolist()  # type: ignore[no-any-return]


def _colours(labels: list[int]) -> dict[int, int]:
    """Of the classes with most images on the map; in the order of classes where all have one."""
    found, counts = np.unique(labels, return_counts=True)
    order: Any = found if len(found) <= MAX_COLOURS else found[np.argsort(-counts, kind="stable")]
    return {int(label): number for number, label in enumerate(order[:MAX_COLOURS])}

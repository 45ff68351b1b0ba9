"""All features of one contestant that an evaluation looks at.

Shapes: M images, D feature width, S x S pixels of an augmented view.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from linear_eval.contestants import Contestant
from linear_eval.errors import InputError
from linear_eval.feature_store import FeatureStore
from linear_eval.features import Embed, FeatureTable
from linear_eval.images import ImageBatches


@dataclass(frozen=True, eq=False)
class FeatureTables:
    """A contestant's features (M, D) per part of the data.

    Attributes:
        train: without its hold-out; with augmented views if they were asked for.
        holdout: likewise; None if there is none.
        test: the whole split.
    """

    train: FeatureTable
    holdout: FeatureTable | None
    test: FeatureTable

    @property
    def by_name(self) -> dict[str, FeatureTable]:
        """Part of the data -> its features."""
        named = {"train": self.train, "holdout": self.holdout, "test": self.test}
        return {name: table for name, table in named.items() if table is not None}


def extract_tables(
    contestant: Contestant,
    batches: dict[str, ImageBatches],
    store: FeatureStore,
    *,
    passes: int,
    seed: int,
    device: torch.device,
) -> FeatureTables:
    """Features of `train`, `holdout` (where there is one) and `test`, from the store if they are.

    Args:
        contestant: who looks at the images.
        batches: per part of the data.
        store: where features are kept.
        passes: augmented passes over train and hold-out; 0 for none.
        seed: of the random backbone and of the augmented views.
        device: where the backbone runs.

    Raises:
        InputError: see `FeatureStore`.
    """
    weights = contestant.weights(batches["train"], seed=seed)
    with contestant.embedding(batches["train"], seed=seed, device=device) as embed:
        tables = {
            name: store.table(weights, embed, part, f"{contestant.title}: {name}")
            for name, part in batches.items()
        }
        if passes:
            for name in tables.keys() - {"test"}:
                label = f"{contestant.title}: {name}, augmented"
                views = _views(store, weights, embed, batches[name], passes, seed, label)
                tables[name] = _with_views(tables[name], views)
    return FeatureTables(tables["train"], tables.get("holdout"), tables["test"])


def _views(
    store: FeatureStore,
    weights: str,
    embed: Embed,
    batches: ImageBatches,
    passes: int,
    seed: int,
    label: str,
) -> tuple[FeatureTable, ...]:
    # the size that the evaluation shows the backbone; any image tells, as all end up alike
    _, images = next(iter(replace(batches, batch_size=1)))
    size = min(images.shape[-2:])
    return store.view_tables(
        weights, embed, batches, size=size, passes=passes, seed=seed, label=label
    )


def _with_views(table: FeatureTable, views: tuple[FeatureTable, ...]) -> FeatureTable:
    if views[0].ids != table.ids:
        raise InputError(
            f"data: {len(views[0].ids)} images could be read for augmented views and "
            f"{len(table.ids)} without, expected the same ones; look at the disk they lie on"
        )
    return replace(table, views=tuple(view.features for view in views))

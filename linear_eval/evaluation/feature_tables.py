"""All features of one contestant that an evaluation looks at.

Shapes: M images, D feature width, S x S pixels of an augmented view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from linear_eval.evaluation.contestants import Contestant
from linear_eval.features.store import FeatureStore
from linear_eval.features.table import Embed, FeatureTable, FeatureTables
from linear_eval.images.batches import ImageBatches
from linear_eval.system.errors import InputError


def extract_tables(  # noqa: PLR0913 - what is wanted and how it is computed, each by its name
    contestant: Contestant,
    batches: dict[str, ImageBatches],
    store: FeatureStore,
    *,
    parts: tuple[str, ...],
    passes: int,
    seed: int,
    device: torch.device,
    faster: Callable[[Embed, torch.device], Embed] = lambda embed, _: embed,
) -> FeatureTables:
    """Features of some parts of the data, from the store if they are there.

    Args:
        contestant: who looks at the images.
        batches: of every part; a random backbone is fitted to `train`.
        store: where features are kept.
        parts: whose features are wanted.
        passes: augmented passes over train and hold-out; 0 for none.
        seed: of the random backbone and of the augmented views.
        device: where the backbone runs.
        faster: makes the same features of what runs there.

    Raises:
        InputError: see `FeatureStore`.
    """
    weights = contestant.weights(batches["train"], seed=seed)
    with contestant.embedding(batches["train"], seed=seed, device=device) as embed:
        embed = faster(embed, device) if contestant.backbone else embed
        tables = {
            name: store.table(weights, embed, batches[name], f"{contestant.title}: {name}")
            for name in parts
        }
        if passes:
            for name in tables.keys() & {"train", "holdout"}:
                label = f"{contestant.title}: {name}, augmented"
                views = _views(store, weights, embed, batches[name], passes, seed, label)
                tables[name] = _with_views(tables[name], views)
    return FeatureTables(**tables)


def _views(
    store: FeatureStore,
    weights: str,
    embed: Embed,
    batches: ImageBatches,
    passes: int,
    seed: int,
    label: str,
) -> tuple[FeatureTable, ...]:
    size = min(batches.one_size())  # what the evaluation shows the backbone
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

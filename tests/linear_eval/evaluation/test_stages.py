from typing import Any

import pytest
import torch
from torch import Tensor

from linear_eval.datasets.textures import TexturesConfig
from linear_eval.evaluation import stages as module
from linear_eval.evaluation.config import EvaluateConfig
from linear_eval.evaluation.feature_tables import FeatureTables
from linear_eval.evaluation.splits import open_splits
from linear_eval.evaluation.stages import stages
from linear_eval.evaluators.neighbour_votes import KnnConfig
from linear_eval.features.table import FeatureTable
from linear_eval.search.exact import nearest_neighbours

DATA = TexturesConfig(train_images=20, test_images=10)


def _table(count: int, seed: int) -> FeatureTable:
    features = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return FeatureTable(
        features, torch.arange(count) % 4, tuple(f"{seed}/{i}" for i in range(count))
    )


def _judged(asked: list[int], monkeypatch: pytest.MonkeyPatch, **settings: Any) -> dict[str, float]:
    """k-NN metrics of all stages; `asked` gets the k of every search."""

    def spy(queries: Tensor, gallery: Any, k: int, **rest: Any) -> tuple[Tensor, Tensor]:
        asked.append(k)
        return nearest_neighbours(queries, gallery, k, **rest)

    monkeypatch.setattr(module, "nearest_neighbours_by_all", spy)
    config = EvaluateConfig(data=DATA, backbone="pixels", evaluators=("knn",), **settings)
    tables = FeatureTables({"train": _table(400, 0), "test": _table(60, 1)})
    metrics: dict[str, float] = {}
    for stage in stages(config, open_splits(DATA)).values():
        metrics |= stage(tables, torch.device("cpu")).metrics
    return metrics


def test_protocols_that_look_in_one_way_share_one_search(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    together = _judged(asked, monkeypatch, protocols=("solo", "ours", "moco", "dino"))
    assert asked == [200]
    for protocol in ("solo", "ours", "moco", "dino"):
        alone = _judged(asked, monkeypatch, protocols=(protocol,))
        assert alone.items() <= together.items()
    assert len(asked) == 5


def test_another_distance_is_another_search(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    knn = KnnConfig(distance="euclidean")
    _judged(asked, monkeypatch, protocols=("ours", "solo", "moco"), knn=knn)
    assert asked == [20, 200]


def test_each_contestant_is_searched_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    config = EvaluateConfig(data=DATA, backbone="pixels", evaluators=("knn",))
    stage = stages(config, open_splits(DATA))["knn"]
    first, second = (
        FeatureTables({"train": _table(60, seed), "test": _table(30, 9)}) for seed in (0, 1)
    )
    found = [stage(tables, torch.device("cpu")).metrics for tables in (first, second, first)]
    assert found[0] == found[2] != found[1]

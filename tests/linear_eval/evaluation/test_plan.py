from typing import Any

import pytest
import torch
from torch import Tensor

from linear_eval.datasets.splits import open_splits
from linear_eval.datasets.textures import TexturesConfig
from linear_eval.evaluation import judge as judge_module
from linear_eval.evaluation.config import EvaluateConfig
from linear_eval.evaluation.contestants import open_contestants
from linear_eval.evaluation.plan import stages
from linear_eval.evaluators import knn
from linear_eval.evaluators.neighbour_votes import KnnConfig
from linear_eval.features.table import FeatureTable, FeatureTables
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.search.exact import nearest_neighbours

DATA = TexturesConfig(train_images=20, test_images=10)


def _table(count: int, seed: int) -> FeatureTable:
    features = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return FeatureTable(
        features, torch.arange(count) % 4, tuple(f"{seed}/{i}" for i in range(count))
    )


def _judged(asked: list[int], monkeypatch: pytest.MonkeyPatch, **settings: Any) -> dict[str, float]:
    """k-NN metrics under all protocols; `asked` gets the k of every search."""

    def spy(queries: Tensor, gallery: Any, k: int, **rest: Any) -> tuple[Tensor, Tensor]:
        asked.append(k)
        return nearest_neighbours(queries, gallery, k, **rest)

    def tables(*args: Any, **rest: Any) -> FeatureTables:
        return FeatureTables(train=_table(400, 0), test=_table(60, 1))

    monkeypatch.setattr(knn, "nearest_neighbours_by_all", spy)
    monkeypatch.setattr(judge_module, "extract_tables", tables)
    config = EvaluateConfig(data=DATA, backbone="pixels", evaluators=("knn",), **settings)
    [contestant] = open_contestants(config)
    splits, cpu = open_splits(DATA), torch.device("cpu")
    batches = {
        name: ImageBatches(split=part, images=EvalImages(), batch_size=8)
        for name, part in splits.parts.items()
    }
    return judge_module.judge(contestant, batches, splits, config, cpu).metrics


def test_protocols_that_look_in_one_way_share_one_search(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    together = _judged(asked, monkeypatch, protocols=("solo", "ours", "moco", "dino"))
    assert asked == [200]
    for protocol in ("solo", "ours", "moco", "dino"):
        alone = _judged(asked, monkeypatch, protocols=(protocol,))
        assert alone.items() <= together.items()
    assert len(asked) == 5  # each contestant is searched anew


def test_another_distance_is_another_search(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    settings = {"knn": KnnConfig(distance="euclidean")}
    _judged(asked, monkeypatch, protocols=("ours", "solo", "moco"), **settings)
    assert asked == [20, 200]


def test_what_the_user_says_of_the_back_end_holds_for_every_protocol() -> None:
    settings: dict[str, Any] = {"knn": KnnConfig(k=(3,), backend="torch")}
    config = EvaluateConfig(
        data=DATA, backbone="pixels", evaluators=("knn",), protocols=("ours", "moco"), **settings
    )
    own, moco = stages(config)
    assert (own.name, own.config.k, own.config.backend) == ("knn", (3,), "torch")
    assert (moco.name, moco.config.k, moco.config.backend) == ("moco/knn", (200,), "torch")

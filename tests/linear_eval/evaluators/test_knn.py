import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from linear_eval.errors import InputError
from linear_eval.evaluators import knn
from linear_eval.evaluators.knn import KnnConfig, evaluate_knn, knn_accuracy, knn_top1, vote
from linear_eval.features import FeatureTable
from linear_eval.search import Backend, nearest_neighbours


def table(features: Tensor, labels: list[int]) -> FeatureTable:
    ids = tuple(f"image {i}" for i in range(len(labels)))
    return FeatureTable(features=features, labels=torch.tensor(labels), ids=ids)


def cosine(a: list[float], b: list[float]) -> float:
    length = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / length if length else 0.0


def loop(
    gallery: list[list[float]],
    labels: list[int],
    query: list[float],
    k: int,
    temperature: float,
) -> int:
    """The winning class, written from the definition; the lower one of equals."""
    similarity = [round(cosine(query, row), 6) for row in gallery]
    nearest = sorted(range(len(gallery)), key=lambda row: (-similarity[row], row))[:k]
    votes: dict[int, float] = {}
    for row in nearest:
        weight = math.exp((similarity[row] - similarity[nearest[0]]) / temperature)
        votes[labels[row]] = votes.get(labels[row], 0.0) + weight
    most = max(votes.values())
    # exp(-2 / 0.07) is 4e-13: a vote that small still decides
    return min(label for label, sum_of in votes.items() if sum_of > most * (1 - 1e-14))


# zero, duplicate, opposite and scaled rows; cosines are exact or far apart
ROW = st.sampled_from([[0, 0], [1, 0], [2, 0], [-1, 0], [0, 1], [3, 4], [-4, 3], [4, 3]])


@settings(deadline=None, max_examples=100)
@given(
    gallery=st.lists(ROW, min_size=1, max_size=9),
    queries=st.lists(ROW, min_size=1, max_size=5),
    temperature=st.sampled_from([0.001, 0.07, 1.0]),
    backend=st.sampled_from(["torch", "faiss"]),
    dtype=st.sampled_from([torch.float16, torch.float32]),
    data=st.data(),
)
def test_accuracy_for_every_k_equals_a_loop(
    gallery: list[list[float]],
    queries: list[list[float]],
    temperature: float,
    backend: Backend,
    dtype: torch.dtype,
    data: st.DataObject,
) -> None:
    classes = st.integers(0, 3)
    labels = data.draw(st.lists(classes, min_size=len(gallery), max_size=len(gallery)))
    truth = data.draw(st.lists(classes, min_size=len(queries), max_size=len(queries)))
    ks = tuple(range(len(gallery), 0, -1))
    accuracy = knn_accuracy(
        torch.tensor(gallery, dtype=dtype),
        torch.tensor(labels),
        torch.tensor(queries, dtype=dtype),
        torch.tensor(truth),
        config=KnnConfig(k=ks, temperature=temperature, backend=backend),
    )
    for k in ks:
        found = [loop(gallery, labels, query, k, temperature) for query in queries]
        right = sum(a == b for a, b in zip(found, truth, strict=True))
        assert accuracy[k] == pytest.approx(100 * right / len(queries))


def blobs(rows: int, seed: int, classes: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (rows,), generator=generator)
    noise = torch.randn(rows, 16, generator=generator)
    return torch.eye(16)[labels] + 0.6 * noise, labels


def test_accuracy_depends_neither_on_order_nor_on_back_end_nor_on_memory() -> None:
    gallery, labels = blobs(600, seed=0)
    queries, truth = blobs(150, seed=1)
    order = torch.randperm(600, generator=torch.Generator().manual_seed(2))
    expected = knn_accuracy(gallery, labels, queries, truth, config=KnnConfig())
    assert 30 < expected[20] < 95
    for config in (KnnConfig(backend="torch"), KnnConfig(backend="faiss")):
        for memory_mib in (1, 512):
            found = knn_accuracy(
                gallery[order],
                labels[order],
                queries,
                truth,
                config=config,
                memory_mib=memory_mib,
            )
            assert found == expected


def test_the_gallery_is_train_with_its_holdout() -> None:
    gallery, labels = blobs(90, seed=0)
    queries, truth = blobs(40, seed=1)
    test, whole = table(queries, truth.tolist()), table(gallery, labels.tolist())
    train = table(gallery[:70], labels[:70].tolist())
    holdout = table(gallery[70:], labels[70:].tolist())
    config = KnnConfig(k=(1, 20))
    metrics, notes = evaluate_knn(train, holdout, test, config)
    assert (metrics, notes) == evaluate_knn(whole, None, test, config)
    assert list(metrics) == ["knn/k=1/top1", "knn/k=20/top1"]
    assert metrics != evaluate_knn(train, None, test, config)[0]
    assert notes == {}


def test_one_search_serves_every_k(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def spy(queries: Tensor, gallery: Tensor, k: int, **rest: Any) -> tuple[Tensor, Tensor]:
        asked.append(k)
        return nearest_neighbours(queries, gallery, k, **rest)

    monkeypatch.setattr(knn, "nearest_neighbours", spy)
    gallery, labels = blobs(60, seed=0)
    knn_accuracy(gallery, labels, gallery, labels, config=KnnConfig(k=(5, 1, 20)))
    assert asked == [20]


def test_the_nearest_neighbour_of_the_gallery_in_itself_is_always_right() -> None:
    gallery, labels = blobs(80, seed=0)
    assert knn_top1(gallery, labels, 7 * gallery, labels, k=1) == 100


def test_top1_of_the_monitor_is_the_accuracy_of_the_evaluator() -> None:
    gallery, labels = blobs(80, seed=0)
    queries, truth = blobs(50, seed=1)
    config = KnnConfig(k=(7,), temperature=0.5)
    expected = knn_accuracy(gallery, labels, queries, truth, config=config)[7]
    assert knn_top1(gallery, labels, queries, truth, k=7, temperature=0.5) == expected


def test_a_collapsed_backbone_predicts_the_first_image_and_ties_go_to_the_lower_class() -> None:
    same, labels = torch.ones(40, 3), torch.tensor([3, 1] * 20)
    truth = torch.tensor([1, 1, 1, 3])
    assert knn_top1(same, labels, same[:4], truth, k=1) == 25  # row 0 is of class 3
    assert knn_top1(same, labels, same[:4], truth, k=2) == 75  # one vote each: class 1


def test_classes_that_the_gallery_lacks_count_as_missed() -> None:
    gallery, labels = torch.eye(3), torch.tensor([0, 1, 2])
    assert knn_top1(gallery, labels, torch.eye(3), torch.tensor([0, 1, 9]), k=1) == pytest.approx(
        200 / 3
    )


def test_equal_votes_of_many_neighbours_go_to_the_lower_class() -> None:
    # the same weights for two classes, each added up from the nearest on
    weights = torch.rand(1, 50, generator=torch.Generator().manual_seed(0)).double()
    weights = weights.sort(descending=True).values.repeat_interleave(2, dim=1)
    labels = torch.tensor([[2, 1] * 50])
    assert vote(labels, weights, (100, 1)).tolist() == [[1], [2]]


def test_votes_do_not_depend_on_how_many_queries_are_counted_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 6, (30, 9), generator=generator)
    weights = torch.rand(30, 9, generator=generator).double()
    expected = vote(labels, weights, (1, 4, 9))
    monkeypatch.setattr(knn, "_VOTES_AT_ONCE", 40)
    assert torch.equal(vote(labels, weights, (1, 4, 9)), expected)


def test_equal_similarities_weigh_exactly_the_same() -> None:
    # otherwise a tied vote would depend on where in the list the neighbours stand
    for n in range(1, 70):
        weights = torch.softmax(torch.full((3, n), 0.3, dtype=torch.float64) / 0.07, dim=1)
        assert (weights == weights[0, 0]).all()


def test_k_beyond_the_gallery_is_refused_with_both_numbers() -> None:
    gallery, labels = blobs(19, seed=0)
    with pytest.raises(InputError, match=r"^k: 20 neighbours .* 1 to 19;"):
        knn_top1(gallery, labels, gallery, labels, k=20)


def test_features_that_are_not_finite_are_named() -> None:
    gallery, labels = blobs(19, seed=0)
    broken = gallery.clone()
    broken[[4, 7], 3] = float("nan")
    with pytest.raises(InputError, match=r"^gallery features: 2 of 19 rows .* row 4,"):
        knn_top1(broken, labels, gallery, labels, k=1)
    with pytest.raises(InputError, match=r"^query features: 2 of 19 rows .* row 4,"):
        knn_top1(gallery, labels, broken, labels, k=1)


@pytest.mark.parametrize(
    ("key", "value"), [("k", ()), ("k", (0,)), ("k", (5, 5)), ("temperature", 0.0)]
)
def test_impossible_settings_are_named(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{key}: "):
        KnnConfig(**{key: value})

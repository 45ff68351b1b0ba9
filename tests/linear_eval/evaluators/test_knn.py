import math
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from linear_eval.evaluators import neighbour_votes
from linear_eval.evaluators.knn import evaluate_knn, knn_predictions, knn_top1
from linear_eval.evaluators.neighbour_votes import KnnConfig, Neighbours, find_neighbours, vote
from linear_eval.features.rows import unit_rows
from linear_eval.features.table import FeatureTable
from linear_eval.search.exact import Backend, nearest_neighbours
from linear_eval.system.errors import InputError
from tests.asking import ask


def table(features: Tensor, labels: list[int]) -> FeatureTable:
    ids = tuple(f"image {i}" for i in range(len(labels)))
    return FeatureTable(features=features, labels=torch.tensor(labels), ids=ids)


def cosine(a: list[float], b: list[float]) -> float:
    length = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / length if length else 0.0


def knn_accuracy(
    gallery: Tensor, labels: Tensor, queries: Tensor, truth: Tensor, **settings: Any
) -> dict[int, float]:
    """Percent for every k at the headline's temperature."""
    predicted = knn_predictions(gallery, labels, queries, **settings)
    ks = settings["config"].k
    return {k: 100 * float((predicted[f"k={k}"] == truth).double().mean()) for k in ks}


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
    found = ask(evaluate_knn, train, holdout, test, config)
    assert found.metrics == ask(evaluate_knn, whole, None, test, config).metrics
    assert list(found.metrics) == ["knn/k=1/top1", "knn/k=20/top1"]
    assert found.metrics != ask(evaluate_knn, train, None, test, config).metrics
    assert found.notes == {}


def test_the_scores_of_the_images_make_up_the_metric() -> None:
    gallery, labels = blobs(90, seed=0)
    queries, truth = blobs(40, seed=1)
    test, train = table(queries, truth.tolist()), table(gallery, labels.tolist())
    found = ask(evaluate_knn, train, None, test, KnnConfig(k=(1, 20), other_temperatures=(0.5,)))
    assert set(found.scores) == set(found.metrics)
    assert set(found.predictions) == {"knn/k=1", "knn/k=20", "knn/k=1/t=0.5", "knn/k=20/t=0.5"}
    for name, classes in found.predictions.items():
        assert torch.equal(found.scores[f"{name}/top1"], (classes == truth).double())
        assert found.metrics[f"{name}/top1"] == 100 * float((classes == truth).double().mean())


def test_other_temperatures_give_what_they_give_alone() -> None:
    gallery, labels = blobs(200, seed=0)
    queries, _ = blobs(60, seed=1)
    config = KnnConfig(k=(5, 20), temperature=0.07, other_temperatures=(0.5, 0.01))
    together = knn_predictions(gallery, labels, queries, config=config)
    for temperature, name in ((0.07, ""), (0.5, "/t=0.5"), (0.01, "/t=0.01")):
        alone = KnnConfig(k=(5, 20), temperature=temperature)
        expected = knn_predictions(gallery, labels, queries, config=alone)
        for k in (5, 20):
            assert torch.equal(together[f"k={k}{name}"], expected[f"k={k}"])
    assert not torch.equal(together["k=20"], together["k=20/t=0.5"])


def test_a_majority_vote_counts_neighbours_and_ties_go_to_the_lower_class() -> None:
    angles = torch.tensor([0.0, 0.1, 0.2, 0.3])
    gallery = torch.stack([angles.cos(), angles.sin()], dim=1)
    labels, query = torch.tensor([7, 3, 3, 7]), torch.tensor([[1.0, 0.0]])
    config = KnnConfig(k=(1, 3, 4), vote="majority")
    predicted = knn_predictions(gallery, labels, query, config=config)
    assert [int(predicted[f"k={k}"]) for k in (1, 3, 4)] == [7, 3, 3]
    weighted = knn_predictions(gallery, labels, query, config=KnnConfig(k=(3,), temperature=0.001))
    assert int(weighted["k=3"]) == 7


@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_euclidean_votes_equal_a_loop(backend: Backend) -> None:
    gallery, labels = blobs(300, seed=0)
    queries, _ = blobs(40, seed=1)
    config = KnnConfig(k=(7,), temperature=0.7, distance="euclidean", backend=backend)
    predicted = knn_predictions(3 + gallery, labels, 3 + queries, config=config)["k=7"]
    for query, found in zip(queries, predicted.tolist(), strict=True):
        squares = (gallery.double() - query.double()).square().sum(dim=1)
        votes = torch.zeros(5, dtype=torch.float64)
        for row in squares.argsort()[:7].tolist():
            votes[labels[row]] += math.exp(-float(squares[row]) / 2 / 0.7)
        assert found == int(votes.argmax())


def test_on_unit_features_euclidean_and_cosine_votes_agree() -> None:
    gallery, labels = blobs(300, seed=0)
    queries, _ = blobs(60, seed=1)
    gallery, queries = unit_rows(gallery), unit_rows(queries)
    cosines = knn_predictions(gallery, labels, queries, config=KnnConfig())
    distances = knn_predictions(gallery, labels, queries, config=KnnConfig(distance="euclidean"))
    assert all(torch.equal(cosines[name], distances[name]) for name in cosines)


def test_leave_one_out_judges_every_test_image_by_the_others() -> None:
    features, labels = blobs(50, seed=0)
    test = table(features, labels.tolist())
    config = KnnConfig(k=(1, 5), gallery="test")
    found = ask(evaluate_knn, table(features[:3], [0, 0, 0]), None, test, config)
    for row in range(50):
        rest = torch.arange(50) != row
        alone = knn_predictions(
            features[rest], labels[rest], features[row : row + 1], config=KnnConfig(k=(1, 5))
        )
        for k in (1, 5):
            assert int(found.predictions[f"knn/k={k}"][row]) == int(alone[f"k={k}"])


def test_one_search_serves_every_k() -> None:
    asked: list[int] = []

    def spy(queries: Tensor, gallery: Tensor, k: int, **rest: Any) -> tuple[Tensor, Tensor]:
        asked.append(k)
        return nearest_neighbours(queries, gallery, k, **rest)

    gallery, labels = blobs(60, seed=0)
    config = KnnConfig(k=(5, 1, 20))
    found = find_neighbours(gallery, gallery, config=config, search=spy).votes(labels, config)
    assert asked == [20]
    for k in config.k:
        alone = KnnConfig(k=(k,))
        assert torch.equal(
            found[f"k={k}"], knn_predictions(gallery, labels, gallery, config=alone)[f"k={k}"]
        )


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
    monkeypatch.setattr(neighbour_votes, "_VOTES_AT_ONCE", 40)
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
    with pytest.raises(InputError, match=r"^gallery: 2 of 19 rows .* row 4,"):
        knn_top1(broken, labels, gallery, labels, k=1)
    with pytest.raises(InputError, match=r"^queries: 2 of 19 rows .* row 4,"):
        knn_top1(gallery, labels, broken, labels, k=1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("k", ()),
        ("k", (0,)),
        ("k", (5, 5)),
        ("temperature", 0.0),
        ("other_temperatures", (0.1, 0.1)),
        ("other_temperatures", (0.07,)),
        ("other_temperatures", (-1.0,)),
    ],
)
def test_impossible_settings_are_named(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{key}: "):
        KnnConfig(**{key: value})


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_approximate_search_says_how_much_it_finds(kind: Any) -> None:
    gallery, labels = blobs(4000, seed=0)
    queries, truth = blobs(300, seed=1)
    train, test = table(gallery, labels.tolist()), table(queries, truth.tolist())
    found = ask(evaluate_knn, train, None, test, KnnConfig(backend=kind))
    exact = ask(evaluate_knn, train, None, test, KnnConfig())
    recall = float(found.notes["knn/recall_of_neighbours"])
    assert 0.5 < recall <= 1
    assert exact.notes == {}
    same = (found.predictions["knn/k=20"] == exact.predictions["knn/k=20"]).double().mean()
    assert same > 0.95 - (1 - recall)


def test_neighbours_that_were_not_found_have_no_vote() -> None:
    similarity = torch.tensor([[0.5, 0.4, -torch.inf, -torch.inf]], dtype=torch.float64)
    neighbours = Neighbours(similarity, torch.tensor([[2, 2, 0, 0]]))
    labels = torch.tensor([1, 5, 3])
    for config in (KnnConfig(k=(4,)), KnnConfig(k=(4,), vote="majority")):
        assert neighbours.votes(labels, config)["k=4"].tolist() == [3]


@pytest.mark.parametrize("backend", ["faiss", "ivf"])
def test_without_a_working_faiss_torch_searches_and_a_note_says_so(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    gallery, labels = blobs(60, seed=0)
    whole = table(gallery, labels.tolist())
    found = ask(evaluate_knn, whole, None, whole, KnnConfig(k=(3,), backend=backend))
    assert found.metrics == ask(evaluate_knn, whole, None, whole, KnnConfig(k=(3,))).metrics
    assert "faiss: cannot be imported" in str(found.notes["knn/backend"])


def test_approximate_back_ends_are_for_cosine_in_train() -> None:
    with pytest.raises(ValueError, match=r"^backend: 'ivf' searches train by cosine"):
        KnnConfig(backend="ivf", distance="euclidean")
    with pytest.raises(ValueError, match=r"^backend: 'hnsw' searches train by cosine"):
        KnnConfig(backend="hnsw", gallery="test")

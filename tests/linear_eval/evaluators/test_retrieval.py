import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from linear_eval.evaluators.retrieval import RetrievalConfig, evaluate_retrieval
from linear_eval.features.table import FeatureTable, joined
from linear_eval.system.errors import InputError
from tests.asking import ask


def table(features: Tensor, labels: list[int]) -> FeatureTable:
    ids = tuple(f"image {i}" for i in range(len(labels)))
    return FeatureTable(features=features, labels=torch.tensor(labels), ids=ids)


def evaluate(
    features: Tensor, labels: list[int], recall_at: tuple[int, ...] = (1,), memory_mib: int = 512
) -> tuple[dict[str, float], dict[str, float | str]]:
    test = table(features, labels)
    train = table(features[:1], labels[:1])
    config = RetrievalConfig(recall_at=recall_at)
    found = ask(evaluate_retrieval, train, None, test, config, memory_mib=memory_mib)
    for name, percent in found.metrics.items():
        assert found.scores[name].shape == (len(labels),)
        assert 100 * float(found.scores[name].nanmean()) == percent
    return found.metrics, found.notes


def cosine(a: list[float], b: list[float]) -> float:
    """Exact for the rows drawn below: their lengths are powers of two, or 5."""
    length = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return round(sum(x * y for x, y in zip(a, b, strict=True)) / length, 6) if length else 0.0


def loop(
    rows: list[list[float]], labels: list[int], recall_at: tuple[int, ...]
) -> dict[str, float]:
    sums: dict[str, float] = {}
    queries = 0
    for i, row in enumerate(rows):
        others = [j for j in range(len(rows)) if j != i]
        others.sort(key=lambda j: (-cosine(row, rows[j]), j))
        relevant = [labels[j] == labels[i] for j in others]
        r = sum(relevant)
        if r == 0:
            continue
        queries += 1
        hits, precisions = 0, []
        for rank, is_relevant in enumerate(relevant, start=1):
            if is_relevant:
                hits += 1
                precisions.append((rank, hits / rank))
        scores = {f"recall@{k}": float(any(relevant[:k])) for k in recall_at} | {
            "map": sum(p for _, p in precisions) / r,
            "map@r": sum(p for rank, p in precisions if rank <= r) / r,
            "r_precision": sum(relevant[:r]) / r,
        }
        for name, score in scores.items():
            sums[name] = sums.get(name, 0.0) + score
    return {f"retrieval/{name}": 100 * total / queries for name, total in sums.items()}


ROWS = st.lists(
    # zero, duplicates, opposite and scaled rows; cosines are exact or far apart
    st.sampled_from([[0, 0], [1, 0], [2, 0], [-1, 0], [0, 1], [3, 4], [-4, 3], [4, 3]]),
    min_size=4,
    max_size=9,
)


@settings(deadline=None, max_examples=80)
@given(rows=ROWS, data=st.data())
def test_every_metric_equals_a_loop(rows: list[list[float]], data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
    metrics, notes = evaluate(torch.tensor(rows).half(), labels, recall_at=(1, 3))
    assert metrics == pytest.approx(loop(rows, labels, (1, 3)), abs=1e-9)
    alone = sum(labels.count(label) == 1 for label in labels)
    assert notes == ({"retrieval/queries_left_out": alone} if alone else {})


def test_perfectly_separated_classes_score_100() -> None:
    labels = [0, 1] * 10
    features = torch.eye(2)[labels]
    metrics, notes = evaluate(features, labels, recall_at=(1, 5, 10))
    names = ["recall@1", "recall@5", "recall@10", "map", "map@r", "r_precision"]
    assert metrics == {f"retrieval/{name}": 100.0 for name in names}
    assert notes == {}


def test_an_image_never_finds_itself() -> None:
    # each image's nearest other one is of the other class
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    metrics, _ = evaluate(features, [0, 1, 0, 1])
    assert metrics["retrieval/recall@1"] == 0


@pytest.mark.parametrize("memory_mib", [1, 2])
def test_metrics_do_not_depend_on_the_memory_budget(memory_mib: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randint(-2, 3, (700, 6), generator=generator).float()
    labels = torch.randint(0, 20, (700,), generator=generator).tolist()
    assert evaluate(features, labels, memory_mib=memory_mib) == evaluate(features, labels)


def test_metrics_do_not_depend_on_the_order_of_the_images() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 8, generator=generator)
    labels = torch.randint(0, 5, (60,), generator=generator)
    order = torch.randperm(60, generator=generator)
    shuffled, _ = evaluate(features[order], labels[order].tolist())
    assert shuffled == pytest.approx(evaluate(features, labels.tolist())[0], abs=1e-9)


def test_images_without_a_second_of_their_class_are_no_queries_but_are_found() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.05]])
    metrics, notes = evaluate(features, [0, 0, 1])
    assert metrics["retrieval/recall@1"] == 0  # the lone image lies between the two
    assert metrics["retrieval/map"] == 50
    assert notes == {"retrieval/queries_left_out": 1}


def test_without_any_pair_of_a_class_there_is_nothing_to_evaluate() -> None:
    with pytest.raises(InputError, match=r"^test: none of 3 images shares its class"):
        evaluate(torch.eye(3), [0, 1, 2])


def test_ranks_beyond_the_other_images_are_refused() -> None:
    evaluate(torch.eye(3), [0, 0, 0], recall_at=(2,))
    with pytest.raises(InputError, match=r"^retrieval.recall_at: 3 .* the 2 other"):
        evaluate(torch.eye(3), [0, 0, 0], recall_at=(1, 3))


def test_features_that_are_not_finite_are_named() -> None:
    features = torch.eye(3)
    features[1] = float("nan")
    with pytest.raises(InputError, match=r"^test features: 1 of 3 rows .* row 1,"):
        evaluate(features, [0, 0, 0])


@pytest.mark.parametrize("recall_at", [(0,), (1, 1)])
def test_recall_ranks_must_be_distinct_and_positive(recall_at: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^recall_at: "):
        RetrievalConfig(recall_at=recall_at)


def gallery_loop(
    queries: FeatureTable, gallery: FeatureTable, recall_at: tuple[int, ...]
) -> dict[str, float]:
    """Every metric from its definition; similarities in float64."""
    sums: dict[str, float] = {}
    asked = 0
    for row, label in zip(queries.features.tolist(), queries.labels.tolist(), strict=True):
        found = gallery.features.tolist()
        order = sorted(range(len(found)), key=lambda j: (-cosine(row, found[j]), j))
        relevant = [int(gallery.labels[j]) == label for j in order]
        r = sum(relevant)
        if r == 0:
            continue
        asked += 1
        precisions = [
            (rank, sum(relevant[:rank]) / rank)
            for rank, is_relevant in enumerate(relevant, start=1)
            if is_relevant
        ]
        scores = {f"recall@{k}": float(any(relevant[:k])) for k in recall_at} | {
            "map": sum(p for _, p in precisions) / r,
            "map@r": sum(p for rank, p in precisions if rank <= r) / r,
            "r_precision": sum(relevant[:r]) / r,
        }
        for name, score in scores.items():
            sums[name] = sums.get(name, 0.0) + score
    return {f"retrieval/{name}": 100 * total / asked for name, total in sums.items()}


def drawn(count: int, classes: int, seed: int) -> FeatureTable:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator).tolist()
    return table(torch.randint(-2, 3, (count, 4), generator=generator).float(), labels)


@pytest.mark.parametrize("memory_mib", [1, 512])
def test_test_images_search_train_with_its_holdout(memory_mib: int) -> None:
    train, holdout, test = drawn(40, 4, 0), drawn(7, 4, 1), drawn(15, 5, 2)
    config = RetrievalConfig(recall_at=(1, 3), gallery="train")
    found = ask(evaluate_retrieval, train, holdout, test, config, memory_mib=memory_mib)
    metrics, notes = found.metrics, found.notes
    assert metrics == pytest.approx(gallery_loop(test, joined([train, holdout]), (1, 3)), abs=1e-9)
    alone = int((test.labels == 4).sum())
    assert alone > 0
    assert notes == {"retrieval/queries_left_out": alone}


def test_a_gallery_of_its_own_is_searched_and_queries_are_not_in_it() -> None:
    queries, gallery = drawn(9, 3, 0), drawn(20, 3, 1)
    config = RetrievalConfig(recall_at=(1,))
    found = ask(evaluate_retrieval, None, None, queries, config, own_gallery=gallery)
    metrics = found.metrics
    assert metrics == pytest.approx(gallery_loop(queries, gallery, (1,)), abs=1e-9)
    assert found.notes == {}
    # the same images on both sides: each finds itself
    found = ask(evaluate_retrieval, None, None, gallery, config, own_gallery=gallery)
    assert found.metrics["retrieval/recall@1"] > metrics["retrieval/recall@1"]


def test_a_gallery_without_the_classes_of_the_queries_is_refused() -> None:
    queries, gallery = table(torch.eye(3), [0, 1, 2]), table(torch.eye(3), [3, 4, 5])
    with pytest.raises(InputError, match=r"^test: none of 3 images .* with a gallery image"):
        ask(evaluate_retrieval, None, None, queries, RetrievalConfig(), own_gallery=gallery)


def test_a_gallery_smaller_than_a_rank_is_refused() -> None:
    queries, gallery = table(torch.eye(3), [0, 1, 2]), table(torch.eye(3), [0, 1, 2])
    with pytest.raises(InputError, match=r"^retrieval.recall_at: 10 .* the 3 gallery images"):
        ask(evaluate_retrieval, None, None, queries, RetrievalConfig(), own_gallery=gallery)


def test_gallery_features_that_are_not_finite_are_named() -> None:
    queries, gallery = table(torch.eye(3), [0, 1, 2]), table(torch.eye(3) / 0, [0, 1, 2])
    with pytest.raises(InputError, match=r"^gallery: 3 of 3 rows"):
        ask(
            evaluate_retrieval,
            None,
            None,
            queries,
            RetrievalConfig(recall_at=(1,)),
            own_gallery=gallery,
        )


@pytest.mark.parametrize("separate", [False, True])
def test_metrics_equal_those_of_pytorch_metric_learning(separate: bool) -> None:
    peer = pytest.importorskip(
        "pytorch_metric_learning.utils.accuracy_calculator",
        reason="pytorch-metric-learning is not installed (extra: dev)",
    )
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(300, 16, generator=generator)
    labels = torch.randint(0, 12, (300,), generator=generator)
    features += 2 * torch.randn(12, 16, generator=generator)[labels]
    unit = torch.nn.functional.normalize(features)
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    calculator = peer.AccuracyCalculator(
        include=names, device=torch.device("cpu"), k="max_bin_count"
    )
    config = RetrievalConfig(recall_at=(1,))
    if separate:
        queries, gallery = (
            table(features[rows], labels[rows].tolist()) for rows in (slice(0, 80), slice(80, 300))
        )
        theirs = calculator.get_accuracy(unit[:80], labels[:80], unit[80:], labels[80:])
        ours = ask(evaluate_retrieval, None, None, queries, config, own_gallery=gallery).metrics
    else:
        theirs = calculator.get_accuracy(unit, labels)
        ours = ask(evaluate_retrieval, None, None, table(features, labels.tolist()), config).metrics
    keys = ("recall@1", "r_precision", "map@r")
    for name, key in zip(names, keys, strict=True):
        assert ours[f"retrieval/{key}"] / 100 == pytest.approx(theirs[name], abs=1e-6)

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from linear_eval.errors import InputError
from linear_eval.evaluators.retrieval import RetrievalConfig, evaluate_retrieval
from linear_eval.features import FeatureTable


def table(features: Tensor, labels: list[int]) -> FeatureTable:
    ids = tuple(f"image {i}" for i in range(len(labels)))
    return FeatureTable(features=features, labels=torch.tensor(labels), ids=ids)


def evaluate(
    features: Tensor, labels: list[int], recall_at: tuple[int, ...] = (1,), memory_mib: int = 512
) -> tuple[dict[str, float], dict[str, float | str]]:
    test = table(features, labels)
    train = table(features[:1], labels[:1])
    config = RetrievalConfig(recall_at=recall_at)
    found = evaluate_retrieval(train, None, test, config, memory_mib=memory_mib)
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

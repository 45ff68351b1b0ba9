"""The comparison of a GPU's judge with the CPU's notices what differs."""

from argparse import Namespace

import pytest
import torch
from torch import Tensor

from bench import gpu_judge
from bench.gpu_judge import judged_like_the_cpu, other_neighbours
from bench.rounds import unit_classes
from linear_eval.search.exact import nearest_neighbours


def classes() -> tuple[Tensor, Tensor, Tensor]:
    gallery, labels = unit_classes(300, 16, 5, seed=1)
    return gallery, labels, unit_classes(40, 16, 5, seed=2)[0]


def test_the_same_search_finds_the_same() -> None:
    assert other_neighbours(*classes(), "cpu") == []


def test_other_similarities_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    own, calls = nearest_neighbours, []

    def rounded(queries: Tensor, gallery: Tensor, k: int, *, metric: str) -> tuple[Tensor, Tensor]:
        calls.append(metric)
        similar, rows = own(queries, gallery, k, metric="cosine")
        return (similar if len(calls) == 1 else similar.bfloat16().float()), rows

    monkeypatch.setattr(gpu_judge, "nearest_neighbours", rounded)
    assert "similarities differ" in other_neighbours(*classes(), "cpu")[0]


def test_other_answers_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([torch.zeros(40), torch.tensor([1.0, *[0.0] * 39])])
    monkeypatch.setattr(gpu_judge, "knn_predictions", lambda *_, **__: {"k=20": next(answers)})
    assert other_neighbours(*classes(), "cpu") == ["1 answers differ without a tie"]


@pytest.mark.slow
def test_the_judge_agrees_with_itself() -> None:
    found = judged_like_the_cpu(Namespace(device="cpu", tiny=True))
    assert found.wrong == ""
    assert set(found.figures) == {"features", "metrics"}

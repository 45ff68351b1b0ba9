"""Tests of ssl_bf.run.build_method: sizes are counted before anything is allocated."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from linear_eval.strict_config.reader import load_config
from linear_eval.system.errors import InputError
from ssl_bf.build import build_run
from ssl_bf.config import PretrainConfig
from ssl_bf.methods.classes import Classes
from ssl_bf.run.build_method import build_method, bytes_needed, check_room

CPU = torch.device("cpu")
FOUR = Classes.unnamed([5] * 4)


def quickstart(*overrides: str) -> PretrainConfig:
    return load_config(PretrainConfig, "quickstart", overrides, packaged="pretrain").value


@pytest.mark.parametrize("method", ["moco_v2", "moco_v3", "simsiam"])
def test_the_count_is_that_of_what_is_built(method: str) -> None:
    config = quickstart(f"method.name={method}", "optimizer.name=sgd")
    built = build_method(config, FOUR)
    states = [3 if p.requires_grad else 1 for p in built.parameters()]
    weights = [4 * p.numel() for p in built.parameters()]
    expected = sum(n * size for n, size in zip(states, weights, strict=True))
    expected += sum(b.numel() * b.element_size() for b in built.buffers())
    assert bytes_needed(config, FOUR) == expected + 2 * 128 * 3 * 32 * 32 * 4


def test_each_further_shard_has_its_own_gradients_and_slow_copies() -> None:
    built = build_method(quickstart(), FOUR)
    one = sum(t.numel() * t.element_size() for t in (*built.parameters(), *built.buffers()))
    more = bytes_needed(quickstart("shards=4"), FOUR) - bytes_needed(quickstart(), FOUR)
    assert more == 3 * one


HUGE: list[Any] = [
    (["method.queue_size=1048576000"], "GiB"),
    (["method.queue_size=100000000000000000000"], "a size that no tensor can have"),
    (["method.hidden_dim=10000000"], "GiB"),
    (["views.size=2000000"], "GiB"),
]


@pytest.mark.parametrize(("overrides", "words"), HUGE, ids=["queue", "beyond", "width", "views"])
def test_sizes_that_fit_nowhere_are_refused_by_arithmetic(overrides: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_room(quickstart(*overrides), FOUR, CPU)


def test_a_run_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="memory: weights"):
        build_run(quickstart("method.queue_size=1048576000", "precision=float32"))


def test_usual_sizes_pass_at_once() -> None:
    check_room(quickstart(), FOUR, CPU)

"""The comparison of a GPU's training with the CPU's notices what differs."""

import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from bench import gpu_training
from bench.gpu_training import (
    METHODS,
    TOLERANCES,
    WITH,
    WITHOUT,
    compared,
    resumed_as_never_stopped,
    settings,
    steps_as_without,
    steps_like_the_cpus,
)
from linear_eval.datasets.textures import TexturesConfig
from linear_eval.strict_config.reader import load_config
from ssl_bf.config import PretrainConfig
from ssl_bf.run.checkpoint import load_newest
from tests.pretended_cuda import pretended_cuda

TINY = Namespace(device="cpu", tiny=True)
RIGHT = [5.0] * 50


@pytest.mark.parametrize("at", [0, 4, 49])
def test_a_step_that_is_too_far_off_is_wrong(at: int) -> None:
    [most] = [each for steps, each in TOLERANCES if at < steps][:1]
    for share, is_wrong in ((0.9 * most, False), (1.1 * most, True), (math.nan, True)):
        found = [*RIGHT]
        found[at] *= 1 + share
        assert bool(compared({"x": (found, RIGHT)}).wrong) == is_wrong


def test_missing_steps_are_wrong() -> None:
    assert "inf" in compared({"x": (RIGHT[:-1], RIGHT)}).wrong


@pytest.mark.parametrize("tiny", [True, False])
@pytest.mark.parametrize("relation", [WITHOUT, [*WITH, "relation.dropout=0"]])
@pytest.mark.parametrize("method", METHODS)
def test_runs_are_float32_of_as_many_steps_as_said(
    method: str, relation: list[str], tiny: bool
) -> None:
    options = Namespace(device="cpu", tiny=tiny)
    given = settings(options, *METHODS[method], *relation, directory=Path("unused"))
    config = load_config(PretrainConfig, "quickstart", given, packaged="pretrain").value
    assert (config.precision, config.method.name, config.data.holdout) == ("float32", method, 0)
    assert isinstance(config.data, TexturesConfig)
    steps = config.epochs * (config.data.train_images // config.batch_size)
    assert steps == (8 if tiny else 50)


def test_both_relations_are_run_on_both_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def losses(options: Namespace, *given: str) -> list[float]:
        runs.append((WITHOUT[0] in given, "speed.device=cpu" in given))
        # other losses on the GPU, with BatchFormer
        return [1.0, 2.0] if runs[-1] != (False, False) else [1.0, 2.5]

    monkeypatch.setattr(gpu_training, "losses", losses)
    found = steps_like_the_cpus("simsiam", Namespace(device="cuda", tiny=True))
    assert sorted(runs) == [(False, False), (False, True), (True, False), (True, True)]
    assert "batchformer" in found.wrong
    assert "none" not in found.wrong


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_steps_agree_on_a_pretended_device(method: str) -> None:
    with pretended_cuda():
        found = steps_like_the_cpus(method, Namespace(device="cuda", tiny=True))
    assert found.wrong == ""
    assert set(found.figures) == {"none", "batchformer"}


@pytest.mark.slow
def test_resumed_runs_are_the_same_to_the_bit() -> None:
    found = resumed_as_never_stopped(TINY)
    assert found.wrong == ""
    assert found.figures["tensors"] > 100


@pytest.mark.slow
def test_a_resumed_run_that_differs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    own, calls = load_newest, []

    def spoiled(directory: Path) -> Any:
        calls.append(directory)
        state = own(directory)
        if len(calls) == 2:
            next(x for x in state.tensors.values() if x.is_floating_point()).add_(1)
        return state

    monkeypatch.setattr(gpu_training, "load_newest", spoiled)
    monkeypatch.setattr(gpu_training, "METHODS", {"simsiam": METHODS["simsiam"]})
    assert resumed_as_never_stopped(TINY).wrong.startswith("1 tensors differ, the first: simsiam")


@pytest.mark.slow
def test_a_setting_of_speed_leaves_the_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_training, "METHODS", {"simsiam": METHODS["simsiam"]})
    assert steps_as_without("speed.per_view_backward", TINY).wrong == ""
    assert steps_as_without("speed.deterministic", TINY).wrong == ""

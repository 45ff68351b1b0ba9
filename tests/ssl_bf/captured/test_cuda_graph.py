"""Tests of ssl_bf.captured.cuda_graph, with a graph recorded on the CPU: same kernels, memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from linear_eval.strict_config.reader import parse_config
from linear_eval.system.errors import InputError
from ssl_bf.build import Run, build_run
from ssl_bf.captured.cuda_graph import WARM_UP, CapturedStep, Graph
from ssl_bf.config import PretrainConfig
from ssl_bf.run.training_state import training_tensors
from ssl_bf.train import _update, prepare
from tests.recorded_graph import RecordedGraph

CONFIG: dict[str, Any] = {
    "data": {"name": "textures", "train_images": 64},
    "views": {"recipe": "moco_v2", "size": 16},
    "backbone": {"name": "small_conv"},
    "relation": {"name": "batchformer", "context": 8, "dropout": 0.5},
    "epochs": 4,
    "batch_size": 16,
    "speed": {"device": "cpu"},
    "precision": "float32",
    "run": {"directory": "unused", "tensorboard": False, "monitor_every": 0},
}
MOCO_V2 = {
    "name": "moco_v2",
    "projection_dim": 16,
    "hidden_dim": 16,
    "queue_size": 32,
    "momentum": 0.5,
    "momentum_schedule": "cosine",
    "batch_norm": "groups:2",  # shuffles
}
METHODS: dict[str, dict[str, Any]] = {
    "moco_v2": MOCO_V2,
    "moco_v3": {"name": "moco_v3", "momentum": 0.5, "hidden_dim": 32, "projection_dim": 16},
    "simsiam": {"name": "simsiam", "projection_dim": 32, "predictor_hidden_dim": 16},
}
STEPS = WARM_UP + 3


def build(method: str, *overrides: str) -> Run:
    return build_run(
        parse_config(PretrainConfig, {**CONFIG, "method": METHODS[method]}, overrides).value
    )


def trained(run: Run, captured: CapturedStep | None) -> tuple[list[float], dict[str, Tensor]]:
    """Losses, and everything that the steps changed."""
    run.model.train()
    update = captured or partial(_update, run)
    with run.loader:
        losses = [
            update(run.loader.batch(step), *prepare(run, step)).item() for step in range(STEPS)
        ]
    measured = {name: torch.tensor(value) for name, value in run.method.measurements().items()}
    return losses, training_tensors(run.method, run.optimizer) | measured


class Unrecorded:
    """Runs the update itself at every replay: what a recording must equal to the bit."""

    def warm_up(self, update: Callable[[], Tensor]) -> Tensor:
        return update()

    def capture(self, update: Callable[[], Tensor]) -> Tensor:
        self._update, self._result = update, torch.zeros(())
        return self._result

    def replay(self) -> None:
        self._result.copy_(self._update().detach())


SGD = "{name: sgd, base_learning_rate: 0.5}"
LARS = "{name: lars, base_learning_rate: 0.5, warmup_epochs: 1}"
ADAMW = "{name: adamw, base_learning_rate: 0.01, warmup_epochs: 1}"


@pytest.mark.parametrize(
    ("method", "optimizer"),
    [("moco_v2", SGD), ("simsiam", SGD), ("moco_v3", SGD), ("moco_v3", LARS), ("moco_v3", ADAMW)],
)
def test_replayed_steps_equal_those_that_are_not(method: str, optimizer: str) -> None:
    results = []
    graphs: list[Graph] = [Unrecorded(), RecordedGraph()]
    for graph in graphs:
        run = build(method, f"optimizer={optimizer}")
        results.append(trained(run, CapturedStep(run, partial(_update, run), graph)))
    (expected_losses, expected), (losses, tensors) = results
    assert losses == expected_losses
    assert tensors.keys() == expected.keys()
    assert [name for name in tensors if not torch.equal(tensors[name], expected[name])] == []
    # beside steps that know nothing of graphs: learning rates are rounded to float32
    plain_losses, _ = trained(build(method, f"optimizer={optimizer}"), None)
    assert losses == pytest.approx(plain_losses, rel=1e-3)


def test_losses_of_earlier_steps_keep_their_values() -> None:
    run = build("simsiam", "optimizer={name: sgd}")
    captured = CapturedStep(run, partial(_update, run), RecordedGraph())
    run.model.train()
    with run.loader:
        losses = [captured(run.loader.batch(step), *prepare(run, step)) for step in range(STEPS)]
    assert len({loss.item() for loss in losses}) == STEPS


class Failing(RecordedGraph):
    """A GPU that refuses the capture."""

    def capture(self, update: Callable[[], Tensor]) -> Tensor:
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")


def test_a_step_that_cannot_be_captured_says_what_to_do() -> None:
    run = build("simsiam", "optimizer={name: sgd}")
    captured = CapturedStep(run, partial(_update, run), Failing())
    with pytest.raises(InputError, match="not permitted.*set speed.cuda_graph=false") as caught:
        trained(run, captured)
    assert "\n" not in str(caught.value)


def test_a_cuda_graph_needs_a_gpu() -> None:
    with pytest.raises(InputError, match="speed.cuda_graph: needs a GPU"):
        build("simsiam", "optimizer={name: sgd}", "speed.cuda_graph=true")

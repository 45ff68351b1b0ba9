"""Tests of ssl_bf.train: the loop, what it logs, saves and refuses to save."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import ssl_bf.train
from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import load_backbone
from linear_eval.datasets.textures import TexturesConfig
from linear_eval.system.errors import StoppedBySignal
from ssl_bf.build import Run
from ssl_bf.cli import main
from ssl_bf.config import decisive_settings
from ssl_bf.keyed_random import StepContext
from ssl_bf.methods.batch import Batch
from ssl_bf.pixels.identity import image_identity
from ssl_bf.run.checkpoint import load_newest
from ssl_bf.run.log import NonFiniteLoss, RunLog
from ssl_bf.run.saved_config import IMAGE_ORDER
from ssl_bf.run.signals import Asked, StopSignals
from ssl_bf.schedules import Elapsed, Momentum
from ssl_bf.train import train
from tests.tiny_moco import STEPS, STEPS_PER_EPOCH, build

OneUpdate = Callable[[Run, Batch, StepContext, Elapsed], torch.Tensor]


def lines_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def checkpoints(directory: Path) -> list[int]:
    folder = directory / "checkpoints"
    return sorted(int(path.name[5:]) for path in folder.iterdir()) if folder.exists() else []


def breaking(at: int, loss: float, *, network: bool) -> OneUpdate:
    """A step whose loss number `at` is broken, and the network too from then on."""
    update = ssl_bf.train._update

    def step_that_breaks(
        run: Run, batch: Batch, context: StepContext, progress: Elapsed
    ) -> torch.Tensor:
        value = update(run, batch, context, progress)
        if context.step + 1 == at:
            value = torch.full_like(value, loss)
            if network:
                with torch.no_grad():
                    next(run.method.backbone.parameters()).fill_(torch.nan)
        return value

    return step_that_breaks


def test_every_step_is_planned_logged_and_counted(tmp_path: Path) -> None:
    run = build("method.momentum_schedule=cosine", "method.momentum=0.9")
    train(run, tmp_path)
    lines = lines_of(tmp_path)
    assert [line["step"] for line in lines] == [*range(1, STEPS + 1)]
    for step, line in enumerate(lines):
        assert line["learning_rate"] == run.plan.learning_rate(step)
        assert line["momentum"] == Momentum(0.9, "cosine").at(run.plan.progress(step))
        assert line["epoch"] == pytest.approx((step + 1) / STEPS_PER_EPOCH, abs=1e-4)
    assert {"feature_std/stream_0", "feature_std/stream_1"} <= lines[0].keys()
    assert {"context_gap/stream_0", "context_gap/stream_1"} <= lines[0].keys()
    layers = {f"gradient_norm/layers.{number}" for number in range(4)}
    assert {key for key in lines[0] if key.startswith("gradient_norm/")} == layers


VIT = ["backbone.name=vit_micro", "views.size=32", "optimizer.name=adamw", "epochs=1"]
VIT += ["optimizer.warmup_epochs=0"]


@pytest.mark.parametrize("method", ["moco_v2", "moco_v3", "simsiam"])
@pytest.mark.parametrize("is_frozen", [True, False])
def test_a_vision_transformer_trains_with_every_method(
    method: str, tmp_path: Path, *, is_frozen: bool
) -> None:
    pytest.importorskip("timm", reason="vision transformers need the extra timm")
    frozen = f"backbone.freeze_patch_projection={str(is_frozen).lower()}"
    run = build(*VIT, f"method.name={method}", "method.hidden_dim=16", frozen)
    before = {name: p.clone() for name, p in run.method.backbone.named_parameters()}
    train(run, tmp_path)
    kept = {name for name, p in run.method.backbone.named_parameters() if p.equal(before[name])}
    projection = {"patch_embed.proj.weight", "patch_embed.proj.bias"} if is_frozen else set()
    assert kept == {"pos_embed"} | projection
    layers = {"cls_token", "norm", *(f"blocks.{number}" for number in range(4))}
    layers |= set() if is_frozen else {"patch_embed"}
    found = {key for key in lines_of(tmp_path)[0] if key.startswith("gradient_norm/")}
    assert found == {f"gradient_norm/{layer}" for layer in layers}
    backbone, info = load_backbone(tmp_path / "backbone.safetensors")
    assert info.architecture == "vit_micro"
    assert_equal_states(backbone.state_dict(), run.method.backbone.state_dict())


INSIDE = ["relation.name=batchformer_v2", "relation.context=8", "relation.residual=gate"]


@pytest.mark.parametrize("method", ["moco_v2", "moco_v3", "simsiam"])
@pytest.mark.parametrize("network", ["small_conv", "vit_micro"])
def test_batchformer_v2_trains_and_hands_over_a_plain_network(
    method: str, network: str, tmp_path: Path
) -> None:
    if network.startswith("vit"):
        pytest.importorskip("timm", reason="vision transformers need the extra timm")
    keys = [*VIT, f"backbone.name={network}", f"method.name={method}", "method.hidden_dim=16"]
    train(build(*keys, *INSIDE), tmp_path)
    lines = lines_of(tmp_path)
    assert lines[0]["gate"] != lines[-1]["gate"]
    assert {"feature_std/stream_0", "feature_std/stream_1"} <= lines[0].keys()
    backbone, _ = load_backbone(tmp_path / "backbone.safetensors")  # strictly
    assert set(backbone.state_dict()) == set(build_backbone(network).state_dict())


def test_a_logged_gradient_is_that_of_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, norms = build("relation.name=none", "epochs=1"), []
    update = ssl_bf.train._update

    def observed(run: Run, batch: Batch, context: StepContext, progress: Elapsed) -> torch.Tensor:
        loss = update(run, batch, context, progress)
        first = run.method.backbone.get_submodule("layers.0").parameters()
        norms.append(torch.cat([p.grad.flatten() for p in first if p.grad is not None]).norm())
        return loss

    monkeypatch.setattr(ssl_bf.train, "_update", observed)
    train(run, tmp_path)
    assert len({float(norm) for norm in norms}) == 3
    for line, norm in zip(lines_of(tmp_path), norms, strict=True):
        assert line["gradient_norm/layers.0"] == pytest.approx(float(norm), rel=1e-5)


def assert_equal_states(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_step_uses_the_learning_rate_and_momentum_of_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = build("optimizer.warmup_epochs=1", "method.momentum_schedule=cosine")
    rates: list[set[float]] = []
    momenta: list[float] = []
    step, move = run.optimizer.step, run.method.move_slow_copies

    def record_rates() -> None:
        rates.append({group["lr"] for group in run.optimizer.param_groups})
        step()

    def record_momentum(momentum: float) -> None:
        assert len(rates) == len(momenta) + 1  # the slow copies follow the optimizer
        momenta.append(momentum)
        move(momentum)

    monkeypatch.setattr(run.optimizer, "step", record_rates)
    monkeypatch.setattr(run.method, "move_slow_copies", record_momentum)
    train(run, tmp_path)
    assert rates == [{run.plan.learning_rate(number)} for number in range(STEPS)]
    assert run.method.momentum == Momentum(0.999, "cosine")
    after = [run.plan.progress(number + 1) for number in range(STEPS)]
    assert momenta == [run.method.momentum.at(progress) for progress in after]
    assert momenta[-1] == 1.0


class NumbersRead(TorchDispatchMode):
    """Counts how often a tensor's number is asked for: on a GPU everything would wait for it."""

    count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.overloadpacket._qualified_op_name
        NumbersRead.count += name in ("aten::_local_scalar_dense", "aten::nonzero")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", ["moco_v2", "moco_v3", "simsiam"])
@pytest.mark.parametrize("optimizer", ["sgd", "lars"])
def test_no_number_is_read_from_the_device_between_log_lines(
    method: str, optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, watch = ssl_bf.train._update, RunLog.watch
    seen: dict[str, int] = {}

    def counted(name: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            before = NumbersRead.count
            with NumbersRead():  # type: ignore[no-untyped-call]
                result = do(*arguments)
            seen[name] = seen.get(name, 0) + NumbersRead.count - before
            return result

        return call

    monkeypatch.setattr(ssl_bf.train, "_update", counted("step", update))
    monkeypatch.setattr(RunLog, "watch", counted("watch", watch))
    reads = counted("one number", torch.Tensor.item)
    reads(torch.ones(()))
    assert seen["one number"] == 1  # it would be seen
    given = [f"optimizer.name={optimizer}", f"method.name={method}", "optimizer.warmup_epochs=0"]
    train(build(*given, "run.log_every=100"), tmp_path)
    assert (seen["step"], seen["watch"]) == (0, 0)


@pytest.mark.parametrize(
    ("every", "saved"), [(1, [3, 6, 9]), (2, [6, 9]), (5, [9])], ids=["1", "2", "5"]
)
def test_checkpoints_come_every_few_epochs_and_in_the_end(
    every: int, saved: list[int], tmp_path: Path
) -> None:
    run = build(f"run.save_every={every}epochs", "run.keep_last=9")
    train(run, tmp_path)
    assert checkpoints(tmp_path) == saved


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    train(build("run.keep_last=1"), tmp_path)
    assert checkpoints(tmp_path) == [9]


@pytest.mark.parametrize(("every", "steps"), [(0, []), (1, [3, 6, 9]), (2, [6, 9])])
def test_the_monitor_runs_every_few_epochs_and_in_the_end(
    every: int, steps: list[int], tmp_path: Path
) -> None:
    train(build(f"run.monitor_every={every}", "run.log_every=4"), tmp_path)
    lines = lines_of(tmp_path)
    assert [line["step"] for line in lines if "monitor/knn_top1" in line] == steps
    assert [line["step"] for line in lines if "loss" in line] == [1, 4, 8, 9]


def test_monitor_log_and_checkpoints_leave_the_result_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssl_bf.train, "git_commit", lambda: None)
    often, seldom = tmp_path / "often", tmp_path / "seldom"
    for directory, settings in (
        (often, ["run.monitor_every=1"]),
        (seldom, ["run.log_every=100", "run.save_every=100epochs", "speed.image_memory_mib=0"]),
    ):
        directory.mkdir()
        torch.manual_seed(len(settings))  # nor does the state of the global generator matter
        train(build(*settings), directory)
    ours, theirs = load_newest(often).tensors, load_newest(seldom).tensors
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_no_test_split_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trap(self: object) -> None:
        raise AssertionError("pretraining opened a test split")

    monkeypatch.setattr(TexturesConfig, "open_test", trap)
    train(build("run.monitor_every=1"), tmp_path)
    assert (tmp_path / "backbone.safetensors").exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("log_every", [1, 100])
def test_a_loss_that_is_not_finite_stops_the_run_and_is_never_saved(
    bad: float, log_every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssl_bf.train, "_update", breaking(5, bad, network=False))
    with pytest.raises(NonFiniteLoss, match=f"loss: is {bad} at step 5, "):
        train(build(f"run.log_every={log_every}"), tmp_path)
    assert checkpoints(tmp_path) == [3]
    assert not (tmp_path / "backbone.safetensors").exists()
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["state"] == "failed"
    assert "step 5" in status["reason"]


@pytest.mark.parametrize("at", [5, 6, 9], ids=["inside", "end of an epoch", "last step"])
def test_the_step_is_named_even_where_the_monitor_comes_first(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssl_bf.train, "_update", breaking(at, float("nan"), network=True))
    with pytest.raises(NonFiniteLoss, match=f"at step {at}, "):
        train(build("run.monitor_every=1", "run.log_every=100"), tmp_path)
    assert max(checkpoints(tmp_path)) < at
    assert not (tmp_path / "backbone.safetensors").exists()


def test_a_run_that_diverges_is_one_line_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "run"
    given = ["data.train_images=64", "batch_size=16", "epochs=30", "relation.name=none"]
    given += ["method.name=moco_v2", "method.queue_size=32", "method.head_batch_norm=false"]
    given += ["optimizer.name=sgd", "optimizer.base_learning_rate=1e30", "precision=float32"]
    given += ["optimizer.warmup_epochs=0", "views.size=16", "run.tensorboard=false"]
    assert main(["pretrain", "quickstart", *given, f"run.directory={directory}"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: loss: is nan at step ")
    assert "Traceback" not in last
    assert checkpoints(directory) == []
    assert not (directory / "backbone.safetensors").exists()


def test_a_signal_saves_the_step_under_way_and_names_the_way_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = build("run.log_every=100", "run.save_every=100epochs")
    asked: list[None] = []

    def agreed(self: StopSignals, *, save_is_due: bool) -> Asked:
        asked.append(None)
        return Asked(len(asked) == 4, save_is_due)

    monkeypatch.setattr(StopSignals, "agreed", agreed)
    with pytest.raises(StoppedBySignal) as stop:
        train(run, tmp_path)
    assert str(stop.value) == (
        f"stopped at step 4 of {STEPS} and saved; go on with: ssl-bf resume {tmp_path}"
    )
    assert checkpoints(tmp_path) == [4]
    state = load_newest(tmp_path).state
    assert state.pop("settings") == decisive_settings(run.config)
    chosen = {"precision": "float32", "threads": torch.get_num_threads()}
    chosen |= {"world_size": 1, "shards": 1}
    assert state == {**IMAGE_ORDER, **image_identity(run.images), **chosen}
    assert not (tmp_path / "backbone.safetensors").exists()


def test_the_threads_of_the_loader_end_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []
    run = build()
    monkeypatch.setattr(run.loader, "close", lambda: closed.append(True))
    monkeypatch.setattr(ssl_bf.train, "_update", breaking(2, float("nan"), network=False))
    with pytest.raises(NonFiniteLoss):
        train(run, tmp_path)
    assert closed == [True]


def test_ctrl_c_while_a_finished_run_is_closed_leaves_it_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = build("run.log_every=100")
    monkeypatch.setattr(run.loader, "close", lambda: os.kill(os.getpid(), signal.SIGINT))
    train(run, tmp_path)
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "finished"

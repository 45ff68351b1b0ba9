"""The code for a GPU, on a pretended one: is every tensor in its place, and what does the host
wait for?"""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import linear_eval.cli
import ssl_bf.cli
from linear_eval.strict_config.reader import parse_config
from ssl_bf.build import build_run
from ssl_bf.captured.cuda_graph import WARM_UP
from ssl_bf.config import PretrainConfig
from ssl_bf.methods.batch import Batch
from ssl_bf.pixels.packed_images import PackedImages
from ssl_bf.pixels.store import HeldImages
from ssl_bf.samplers.sampler import EveryImage, Pool
from ssl_bf.train import _update, prepare, train
from ssl_bf.views.batch_ops import crop_and_resize
from ssl_bf.views.loader import ViewLoader
from ssl_bf.views.recipes import ViewsConfig
from ssl_bf.views.uniform_views import finish
from tests.pretended_cuda import is_on_cuda, pretended_cuda
from tests.recorded_graph import RecordedGraph

RUN: dict[str, Any] = {
    "data": {"name": "textures", "train_images": 64},
    "views": {"recipe": "moco_v2", "size": 16},
    "backbone": {"name": "small_conv"},
    "relation": {"name": "batchformer", "context": 8},
    "epochs": 3,
    "batch_size": 16,
    "speed": {"device": "cuda"},
    "run": {"directory": "unused", "tensorboard": False, "monitor_every": 0},
}
METHODS: dict[str, dict[str, Any]] = {
    "moco_v2": {"name": "moco_v2", "projection_dim": 16, "hidden_dim": 16, "queue_size": 32},
    "moco_v3": {"name": "moco_v3", "hidden_dim": 32, "momentum_schedule": "cosine"},
    "simsiam": {"name": "simsiam", "projection_dim": 32, "predictor_hidden_dim": 16},
}
BENCHMARKS = """
    batchformer info_nce kornia_views logistic loop memory moco_v3_step overhead pipeline probe
    retrieval views
"""
JUDGED = ["data.train_images=300", "data.test_images=60", "linear_probe.epochs=2"]


def test_what_would_fail_on_a_gpu_fails_here() -> None:
    with pretended_cuda() as waits:
        x = torch.ones(3, device="cuda")
        layer = torch.nn.Linear(3, 2).to(torch.device("cuda"))
        layer(x).sum().backward()
        assert layer.weight.grad is not None
        assert layer.weight.grad.device == x.device == torch.device("cuda", 0)
        assert x.to("cpu").device == torch.device("cpu") != x.detach().view(3, 1).device
        with pytest.raises(RuntimeError, match="one device"):
            x + torch.ones(3)
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()
        x + torch.tensor(1.0)  # a number of the CPU may take part
        waits.clear()
        assert x.sum().item() == 3
        assert len(waits) == 1
        assert "test_pretended_cuda.py" in waits[0]
    assert torch.ones(1).device.type == "cpu"
    assert not torch.ones(1).is_cuda


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer={name: sgd}"],
        ["optimizer={name: lars, warmup_epochs: 1}", "precision=bf16", "relation.pairs=all"],
        ["optimizer={name: adamw, warmup_epochs: 1}", "accumulate=2", "speed.images=files"],
    ],
    ids=["sgd", "lars", "adamw"],
)
@pytest.mark.parametrize("method", METHODS)
def test_a_step_runs_on_the_gpu_and_the_host_never_waits(method: str, overrides: list[str]) -> None:
    if method == "simsiam":
        overrides = [each for each in overrides if "pairs" not in each]
    with pretended_cuda() as waits:
        run = build_run(
            parse_config(PretrainConfig, {**RUN, "method": METHODS[method]}, overrides).value
        )
        run.model.train()
        with run.loader:
            for step in range(3):
                batch = run.loader.batch(step)
                assert is_on_cuda(batch.views[0])
                waits.clear()
                loss = _update(run, batch, *prepare(run, step))
                assert waits == []
        assert is_on_cuda(loss)
        assert all(is_on_cuda(x) for x in run.method.state_dict().values())


def test_the_loader_does_not_wait_either() -> None:
    raw = {**RUN, "method": METHODS["moco_v2"], "optimizer": {"name": "sgd"}}
    with pretended_cuda() as waits:
        run = build_run(parse_config(PretrainConfig, raw, ["speed.images=device"]).value)
        assert any("GPU memory" in line for line in run.notes)
        with run.loader:
            waits.clear()
            run.loader.batch(0)
        assert waits == []


def leave_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler does not know the pretended device; what it is given runs as it is."""
    uncompiled = crop_and_resize, finish
    monkeypatch.setattr("ssl_bf.views.uniform_views._compiled", lambda: uncompiled)


@pytest.mark.parametrize("compiled", [False, True])
def test_photographs_of_unequal_size_become_views_all_at_once(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_uncompiled(monkeypatch)
    pixels = torch.randint(0, 256, (40, 3, 40, 44), dtype=torch.uint8)
    stored = PackedImages.of(
        [image[:, : 30 + i % 9, : 40 - i % 7] for i, image in enumerate(pixels)]
    )

    def batch_of(count: int, device: str) -> Batch:
        loader = ViewLoader(
            HeldImages(stored, bad_images={}, note=""),
            ViewsConfig(recipe="moco_v3", size=24),
            EveryImage(Pool(seed=0, batch_size=count, labels=torch.zeros(len(stored)))),
            rank=0,
            world_size=1,
            device=torch.device(device),
            channels_last=True,
            compiled=compiled,
        )
        with loader:
            return loader.batch(0)

    operations = []
    for count in (20, 40):
        with pretended_cuda() as waits, _OnCuda() as counted:  # type: ignore[no-untyped-call]
            batch = batch_of(count, "cuda")
        assert waits == []
        assert is_on_cuda(batch.views[0])
        operations.append(counted.operations)
    # not compiled, hue is shifted for those rows whose turn it is, in up to four parts
    assert operations[0] == pytest.approx(operations[1], abs=0 if compiled else 100)
    expected = batch_of(40, "cpu")
    for view, as_expected in zip(batch.views, expected.views, strict=True):
        difference = (view - as_expected).abs()
        assert (difference < 1e-4).float().mean() > 0.999  # but where solarize's threshold lies


class _OnCuda(TorchDispatchMode):
    """Counts what a GPU would be asked for."""

    operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        self.operations += any(is_on_cuda(x) for x in tensors)
        return result


def test_a_run_and_its_judgement_are_those_of_the_cpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained, saved, resumed and judged; the numbers differ by rounding."""
    losses, metrics = {}, {}
    for device in ("cpu", "cuda"):
        run = tmp_path / device
        ours = [f"run.directory={run}", f"speed.device={device}", "run.monitor_every=1"]
        ours += ["run.log_every=1", "run.save_every=1epochs"]
        output = tmp_path / f"{device}.json"
        judged = [f"backbone={tmp_path / 'cpu' / 'backbone.safetensors'}", f"output={output}"]
        judged += [f"speed.device={device}", "features.folder=none", *JUDGED]
        with pretended_cuda():  # for both: `cpu` must not touch the GPU that is there
            trained = ssl_bf.cli.main(["pretrain", "quickstart", "epochs=2", *JUDGED[:1], *ours])
            assert trained == 0, capsys.readouterr().err
            (run / "backbone.safetensors").unlink()  # as if killed in the second epoch
            shutil.rmtree(run / "checkpoints" / "step-000000004")
            assert ssl_bf.cli.main(["resume", str(run)]) == 0, capsys.readouterr().err
            done = linear_eval.cli.main(["run", "quickstart", *judged])
            assert done == 0, capsys.readouterr().err
        lines = (run / "metrics.jsonl").read_text().splitlines()
        losses[device] = [json.loads(line)["loss"] for line in lines if '"loss"' in line]
        metrics[device] = json.loads(output.read_text())["metrics"]
    assert len(losses["cuda"]) == 4
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-3)
    assert metrics["cuda"] == pytest.approx(metrics["cpu"], abs=2)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_of_replayed_steps(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_bf.captured.cuda_graph.CudaGraph", RecordedGraph)
    raw = {**RUN, "method": METHODS[method], "optimizer": {"name": "sgd"}}
    losses = []
    for replayed in ("false", "true"):
        directory = tmp_path / replayed
        directory.mkdir()
        overrides = [f"speed.cuda_graph={replayed}", "run.log_every=1"]
        with pretended_cuda():
            train(build_run(parse_config(PretrainConfig, raw, overrides).value), directory)
        lines = (directory / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert len(losses[0]) > WARM_UP + 2
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS.split())
def test_a_benchmark_runs_on_the_gpu(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for peer in ("kornia", "lightly", "sklearn", "pytorch_metric_learning"):
        pytest.importorskip(peer)
    monkeypatch.setattr("bench.rounds._LIMIT_SIZE", {"cpu": 64, "cuda": 64})
    monkeypatch.setattr("ssl_bf.captured.cuda_graph.CudaGraph", RecordedGraph)
    leave_uncompiled(monkeypatch)
    options = ["--quick", "--rounds", "1", "--device", "cuda", "--output", str(tmp_path)]
    with pretended_cuda():
        rows = importlib.import_module(f"bench.{name}").main(options)
    assert [row["wrong"] for row in rows] == [""] * len(rows)
    assert {row["device"] for row in rows if "wall_seconds" in row} == {"pretended"}

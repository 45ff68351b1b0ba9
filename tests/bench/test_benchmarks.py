"""The benchmarks run, and notice a variant that does something else."""

import json
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import (
    batchformer,
    context_gap,
    info_nce,
    knn,
    kornia_views,
    logistic,
    loop,
    memory,
    moco_v3_step,
    overhead,
    pipeline,
    probe,
    relation_memory,
    relation_places,
    retrieval,
    startup,
    step,
    time_to_accuracy,
    views,
)
from bench import input as input_bench
from bench.options import parse
from bench.rounds import compare, measure
from ssl_bf.views.recipes import ViewsConfig, make_view
from ssl_bf.views.view_draws import ViewDraws


@pytest.mark.slow
@pytest.mark.parametrize(
    ("benchmark", "peers"),
    [
        (knn, "faiss lightly sklearn"),
        (logistic, "sklearn"),
        (retrieval, "pytorch_metric_learning"),
        (views, "lightly"),
        (kornia_views, "kornia"),
        (step, "lightly"),
        (moco_v3_step, ""),
        (pipeline, "lightly"),
        (batchformer, ""),
        (relation_places, ""),
        (relation_memory, ""),
        (context_gap, ""),
        (overhead, ""),
        (info_nce, ""),
    ],
)
def test_a_benchmark_finds_its_variants_equivalent(
    benchmark: Any, peers: str, tmp_path: Path
) -> None:
    for peer in peers.split():
        pytest.importorskip(peer)
    rows = benchmark.main(["--quick", "--rounds", "1", "--output", str(tmp_path)])
    assert [row["wrong"] for row in rows] == [""] * len(rows)
    written = [json.loads(line) for path in tmp_path.iterdir() for line in path.open()]
    assert sorted(row["variant"] for row in written) == sorted(row["variant"] for row in rows)
    compared = [row for row in written if "wall_ratio" in row]
    assert len(compared) >= 2
    assert all(row["wall_ratio"] > 0 and row["versions"]["torch"] for row in compared)


@pytest.mark.slow
def test_views_from_files_and_from_a_store_look_like_lightlys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lightly")
    monkeypatch.delenv("BENCH_IMAGES", raising=False)
    rows = input_bench.main(["--quick", "--rounds", "1", "--output", str(tmp_path)])
    assert [row["wrong"] for row in rows] == [""] * 4


@pytest.mark.slow
def test_the_probes_reach_one_accuracy(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    rows = probe.main(["--quick", "--rounds", "1", "--output", str(tmp_path)])
    assert [row["wrong"] for row in rows[:2]] == ["", ""]


@pytest.mark.slow
def test_time_to_accuracy_ends_with_the_first_accuracy_that_is_enough(tmp_path: Path) -> None:
    options = ["--quick", "--rounds", "1", "--seed", "3", "--output", str(tmp_path)]
    [row] = time_to_accuracy.main(options)
    assert row["wrong"] == ""
    assert row["variant"] == "seed 3"
    assert row["wall_seconds"] > 0
    [last] = row["accuracies_percent"]  # of two epochs: it was stopped
    assert last >= row["target_percent"]
    assert json.loads((tmp_path / "time_to_accuracy.jsonl").read_text()) == row


def test_an_accuracy_that_is_not_reached_is_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_to_accuracy, "train_until", lambda *_: (7.0, [30.0, 79.9]))
    options = ["--device", "cpu", "--quick", "--output", str(tmp_path)]
    parsed = parse("", options)
    row = time_to_accuracy.one_seed(0, 80.0, parsed)
    assert (row["equivalent"], row["wrong"]) == (False, "best 79.90 %, target 80 %")
    assert time_to_accuracy.one_seed(0, 79.9, parsed)["equivalent"]


def test_a_line_of_metrics_that_is_being_written_does_not_count(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    assert time_to_accuracy.monitored(metrics) == []
    metrics.write_text('{"loss": 1}\n{"monitor/knn_top1": 12.5}\n{"monitor/knn_top1": 8')
    assert time_to_accuracy.monitored(metrics) == [12.5]


@pytest.mark.parametrize("benchmark", [kornia_views, moco_v3_step, pipeline, time_to_accuracy])
def test_a_row_for_a_gpu_is_skipped_in_one_line(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main(["--output", str(tmp_path)]) == []
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "--device cuda" in out
    assert not list(tmp_path.iterdir())


def test_a_pipeline_that_trains_otherwise_is_noticed() -> None:
    config = ViewsConfig(recipe="moco_v2", size=32, blur=False)
    images, ids = views.random_images(200, 40, 40), torch.arange(200)

    def epoch(loss: float, *, darker: float = 1.0, seed: int = 0) -> pipeline.Epoch:
        pair = [make_view(images, ViewDraws(seed, 0, view, ids), config) for view in (1, 2)]
        return pipeline.Epoch(3, loss, lambda: (pair[0] - 1 + darker, pair[1] - 1 + darker))

    ours = epoch(2.0)
    assert pipeline.same_training(ours, epoch(2.1, seed=1), config) == ""
    assert pipeline.same_training(ours, epoch(2.1)._replace(steps=2), config) == "3 and 2 steps"
    assert "loss" in pipeline.same_training(ours, epoch(4.0), config)
    assert "loss" in pipeline.same_training(ours, epoch(float("nan")), config)
    assert "red" in pipeline.same_training(ours, epoch(2.0, darker=0.5), config)


def test_the_loop_is_measured_against_its_step(tmp_path: Path) -> None:
    rows = loop.main(["--quick", "--rounds", "1", "--output", str(tmp_path)])
    assert [(row["variant"], row["wrong"]) for row in rows] == [
        ("whole loop", ""),
        ("step on prepared views", ""),
    ]
    assert rows[1]["wall_ratio"] > 0


@pytest.mark.slow
def test_startup_is_measured_from_the_launch(tmp_path: Path) -> None:
    rows = startup.main(["--quick", "--rounds", "1", "--output", str(tmp_path)])
    taken = {row["variant"]: row["wall_seconds"] for row in rows}
    assert list(taken) == list(startup.MOST_SECONDS)
    assert 0 < taken["ssl-bf --help"] < taken["first step"]
    assert all(row["cpu_seconds"] > 0 for row in rows)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_memory_is_measured_and_neighbours_are_found(tmp_path: Path) -> None:
    [row] = memory.main(["--quick", "--output", str(tmp_path)])
    assert row["wrong"] == ""
    with memory.PeakMemory() as peak:
        torch.ones(2**24)  # 64 MiB
        torch.cat([torch.ones(2**24)] * 4).sum().item()
    assert peak.mib > 200


def test_a_variant_that_does_something_else_gets_no_ratio(tmp_path: Path) -> None:
    rows = compare(
        "wrong",
        {"ours": lambda: 1, "other": lambda: 2},
        check=lambda ours, theirs: "" if ours == theirs else f"{ours} and {theirs}",
        options=Namespace(device="cpu", rounds=2, output=tmp_path),
        facts={"rows": 3},
        flop=1.0,
    )
    assert [row["equivalent"] for row in rows] == [True, False]
    assert "wall_ratio" in rows[0]
    assert "wall_ratio" not in rows[1]
    assert rows[1]["wrong"] == "1 and 2"


def test_a_gpu_has_nothing_to_do_when_a_clock_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def clock() -> float:
        done.append("clock")
        return 0.0

    monkeypatch.setattr(torch.cuda, "synchronize", lambda: done.append("synchronised"))
    monkeypatch.setattr(time, "perf_counter", clock)
    measure(lambda: done.append("run"), "cuda")
    assert done == ["synchronised", "clock", "run", "synchronised", "clock"]


def test_other_neighbours_are_noticed() -> None:
    ours = torch.arange(5000).view(100, 50)
    assert knn.same_neighbours(ours, ours.flip(1)) == ""
    assert "2.00 % other neighbours" in knn.same_neighbours(ours, ours + (ours % 50 == 49))


def test_views_drawn_otherwise_are_noticed() -> None:
    images, ids = views.random_images(400, 40, 40), torch.arange(400)
    settings: dict[str, Any] = {"recipe": "moco_v2", "mean": views.BLACK, "std": views.WHITE}
    blurred = ViewsConfig(size=32, **settings)
    sharp = ViewsConfig(size=32, blur=False, **settings)
    one, other = ([make_view(images, ViewDraws(s, 0, 1, ids), blurred)] for s in (0, 1))
    assert views.alike(one, other) == ""
    assert views.alike([one[0] * 0.8], other).startswith("red")
    stronger = one[0] * (0.2 + 1.6 * torch.rand(400, 1, 1, 1))
    assert views.alike([stronger], other).startswith("deviation of red")
    unblurred = [make_view(images, ViewDraws(0, 0, 1, ids), sharp)]
    assert views.alike(unblurred, other).startswith("sharpness")

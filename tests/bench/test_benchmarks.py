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
    info_nce,
    knn,
    logistic,
    loop,
    memory,
    overhead,
    probe,
    retrieval,
    startup,
    step,
    views,
)
from bench import input as input_bench
from bench.rounds import compare, measure
from ssl_bf.input.view_draws import ViewDraws
from ssl_bf.input.views import ViewsConfig, make_view


@pytest.mark.slow
@pytest.mark.parametrize(
    ("benchmark", "peers"),
    [
        (knn, "faiss lightly sklearn"),
        (logistic, "sklearn"),
        (retrieval, "pytorch_metric_learning"),
        (views, "lightly"),
        (step, "lightly"),
        (batchformer, ""),
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
    unblurred = [make_view(images, ViewDraws(0, 0, 1, ids), sharp)]
    assert views.alike(unblurred, other).startswith("sharpness")

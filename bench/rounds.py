"""Interleaved rounds: every variant runs once a round, and ratios are taken within a round.

So what else the machine does falls on all variants alike. Wall time is the promise, CPU time the
check where the machine is shared.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from linear_eval.search.rounding import fast_product

RESULTS = Path(__file__).parent / "results"
_PEERS = ["torch", "numpy", "faiss-gpu", "faiss-cpu", "lightly", "scikit-learn"]
_PEERS += ["pytorch-metric-learning", "kornia", "albumentationsx", "opencv-python-headless"]
_LIMIT_SIZE = {"cpu": 2048, "cuda": 8192}
_LIMIT_PRODUCTS = {"cpu": 1, "cuda": 10}  # timed together: one is over before a GPU's clock is up


class Seconds(NamedTuple):
    """What one run took."""

    wall: float
    cpu: float


class Elsewhere(NamedTuple):
    """What a run in another process took, and what it computed."""

    seconds: Seconds
    result: Any


def measure(run: Callable[[], Any], device: torch.device | str = "cpu") -> tuple[Seconds, Any]:
    """Run once; on a GPU, from when earlier work is done until its own is."""
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    if isinstance(result, Elsewhere):
        return result
    if on_gpu:
        torch.cuda.synchronize()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu), result


def matmul_limit(dtype: torch.dtype, device: torch.device | str = "cpu") -> float:
    """GFLOP/s of large square matrix products of random numbers, the best of several attempts."""
    kind = torch.device(device).type
    size, products = _LIMIT_SIZE[kind], _LIMIT_PRODUCTS[kind]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, size, generator=generator).to(device, dtype)
    out = torch.empty_like(x)
    # on a CPU torch.mm is not always the fastest, and then no limit
    product = fast_product(dtype) if kind == "cpu" else lambda a, b, c: torch.mm(a, b.T, out=c)

    def multiply() -> None:
        for _ in range(products):
            product(x, x, out)

    seconds = [measure(multiply, device)[0].wall for _ in range(5)]
    return products * 2 * size**3 / min(seconds) / 1e9


def compare(
    name: str,
    variants: Mapping[str, Callable[[], Any]],
    *,
    check: Callable[[Any, Any], str],
    options: Namespace,
    facts: Mapping[str, Any],
    flop: float,
    warm_up: Callable[[], Any] | None = None,
) -> list[dict[str, Any]]:
    """Run the variants in turn, print a table, and append one JSON line per variant.

    Args:
        name: of the benchmark and its file of results.
        variants: the first is ours; ratios are another's time over ours.
        check: of our result and another's: what is wrong, or nothing. A variant that is not
            equivalent is marked, and its ratio not given.
        options: from `bench.options`; ratios are medians over `rounds`.
        facts: sizes and whatever else makes a number comparable.
        flop: of the multiplications that cannot be avoided, for the share of the machine's limit,
            which is measured once a round as well: the best counts. 0: not known.
        warm_up: loads libraries and warms caches; without it, one more round does.
    """
    device, rounds = options.device, options.rounds
    limits = dict.fromkeys(("float32", "bfloat16"), 0.0)
    taken: dict[str, list[Seconds]] = {variant: [] for variant in variants}
    results: dict[str, Any] = {}
    for run in [warm_up] if warm_up else variants.values():
        run()
    for _ in range(rounds):
        for key in limits:
            limits[key] = max(limits[key], matmul_limit(getattr(torch, key), device))
        for variant, run in variants.items():
            seconds, results[variant] = measure(run, device)
            taken[variant].append(seconds)
    ours = next(iter(variants))
    rows = []
    for variant, times in taken.items():
        wrong = check(results[ours], results[variant])
        wall = statistics.median(each.wall for each in times)
        row = {
            "benchmark": name,
            "variant": variant,
            "wall_seconds": round(wall, 4),
            "cpu_seconds": round(statistics.median(each.cpu for each in times), 4),
            "equivalent": not wrong,
            "wrong": wrong,
            "share_of_limit": {
                key: round(flop / 1e9 / wall / g, 3) for key, g in limits.items() if flop
            },
            "limit_gflops": {key: round(g, 1) for key, g in limits.items()},
            "rounds": rounds,
            **facts,
            **machine(device),
        }
        if not wrong:
            row["wall_ratio"], row["wall_ratio_iqr"] = _ratio(times, taken[ours], "wall")
            row["cpu_ratio"], row["cpu_ratio_iqr"] = _ratio(times, taken[ours], "cpu")
        rows.append(row)
    _show(rows)
    append(options.output / f"{name}.jsonl", rows)
    return rows


def show_images_per_second(rows: list[dict[str, Any]], images: int) -> None:
    """Print the speed of every variant, each of which took so many images a run."""
    for row in rows:
        print(f"{row['variant']}: {images / max(row['wall_seconds'], 1e-4):.0f} images per second")


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    """One JSON line per row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in rows)


def machine(device: str) -> dict[str, Any]:
    """Versions, threads, load and the processor, for the JSON line."""
    versions = {}
    for package in _PEERS:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    on_gpu = torch.device(device).type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    """Maker, family and model, as Linux tells them: what it multiplies fast differs."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    facts: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    known = [facts[key] for key in ("model name", "cpu family", "model") if key in facts]
    return ", ".join(known) or platform.processor()


def unit_classes(rows: int, width: int, classes: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Random unit rows (rows, width) around one random direction per class, and labels (rows,)."""
    centers = torch.randn(classes, width, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (rows,), generator=generator)
    noise = torch.randn(rows, width, generator=generator)
    return torch.nn.functional.normalize(0.15 * centers[labels] + noise), labels


def _ratio(theirs: list[Seconds], ours: list[Seconds], clock: str) -> tuple[float, list[float]]:
    """Median and quartiles of theirs / ours, round by round."""
    ratios = [getattr(a, clock) / getattr(b, clock) for a, b in zip(theirs, ours, strict=True)]
    cuts = statistics.quantiles(ratios, method="inclusive") if len(ratios) > 1 else ratios * 3
    return round(statistics.median(ratios), 3), [round(cuts[0], 3), round(cuts[2], 3)]


def _show(rows: list[dict[str, Any]]) -> None:
    print(f"{'variant':32} {'wall s':>9} {'cpu s':>9} {'wall x':>8} {'cpu x':>8}  of the limit")
    for row in rows:
        ratios = f"{row.get('wall_ratio', '-'):>8} {row.get('cpu_ratio', '-'):>8}"
        share = ", ".join(f"{100 * v:.0f} % {k}" for k, v in row["share_of_limit"].items())
        print(
            f"{row['variant']:32} {row['wall_seconds']:9.3f} {row['cpu_seconds']:9.3f} {ratios}  "
            f"{share}{'  NOT EQUIVALENT: ' + row['wrong'] if row['wrong'] else ''}"
        )
